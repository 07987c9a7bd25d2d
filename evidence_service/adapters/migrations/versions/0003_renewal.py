"""Renewal of FAS authorization certificates: leases, servers, acts, wishes; and what people are told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what renews and what tells people; every alarm so far is about an identity provider."""
    op.add_column("alarms", sa.Column("about", sa.Text(), nullable=False, server_default="idp"))
    op.add_column("alarms", sa.Column("told", sa.BigInteger()))
    _renewal()
    _messages()


def _renewal() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("held_until", sa.BigInteger()),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "fas_servers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("jitter", sa.Float(), nullable=False),
        sa.Column("next_tick_at", sa.BigInteger(), nullable=False),
        sa.Column("observation", sa.Text()),
        sa.Column("observed_at", sa.BigInteger()),
        sa.Column("step", sa.Text()),
        sa.Column("step_since", sa.BigInteger()),
        sa.Column("problem", sa.Text()),
        sa.Column("problem_text", sa.Text()),
        sa.Column("problem_since", sa.BigInteger()),
        sa.Column("misses", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before", sa.BigInteger()),
        sa.Column("paused_until", sa.BigInteger()),
        sa.Column("paused_by", sa.Text()),
        sa.Column("paused_note", sa.Text()),
        sa.Column("first_usable", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("ahead_since", sa.BigInteger()),
        sa.PrimaryKeyConstraint("name", name="pk_fas_servers"),
    )
    op.create_table(
        "renewal_acts",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.Text()),
        sa.Column("result_at", sa.BigInteger()),
        sa.Column("certificate_id", sa.Text()),
        sa.Column("finding", sa.Text()),
        sa.ForeignKeyConstraint(["server"], ["fas_servers.name"], name="fk_renewal_acts_server"),
        sa.PrimaryKeyConstraint("seq", name="pk_renewal_acts"),
    )
    op.create_index("ix_renewal_acts_server_seq", "renewal_acts", ["server", "seq"])
    op.create_table(
        "renewal_asks",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary()),
        sa.Column("settled_at", sa.BigInteger()),
        sa.Column("outcome", sa.Text()),
        sa.ForeignKeyConstraint(["server"], ["fas_servers.name"], name="fk_renewal_asks_server"),
        sa.PrimaryKeyConstraint("seq", name="pk_renewal_asks"),
    )
    op.create_index("ix_renewal_asks_server_settled_at", "renewal_asks", ["server", "settled_at"])


def _messages() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_outbox"),
        sa.UniqueConstraint("id", name="uq_outbox_id"),
        sa.UniqueConstraint("fact", name="uq_outbox_fact"),
    )
    op.create_table(
        "deliveries",
        sa.Column("message_seq", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=False),
        sa.Column("jitter", sa.Float(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger()),
        sa.Column("problem", sa.Text()),
        sa.Column("sent_with", sa.BigInteger()),
        sa.ForeignKeyConstraint(["message_seq"], ["outbox.seq"], name="fk_deliveries_message_seq"),
        sa.PrimaryKeyConstraint("message_seq", "channel", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_state_next_attempt_at", "deliveries", ["state", "next_attempt_at"])
