"""Metadata sources, held rollovers, the history and use of certificates, alarms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what tracks trust over time; certificates known before begin their history now."""
    op.add_column("certificates", sa.Column("absent_since", sa.BigInteger()))
    op.add_column("certificates", sa.Column("absences", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("idps", sa.Column("refreshed_at", sa.BigInteger()))
    _certificates()
    _sources()
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER certificate_history_no_{verb.lower()} BEFORE {verb} ON certificate_history "
                "BEGIN SELECT RAISE(ABORT, 'the history of certificates is append-only'); END"
            )


def _certificates() -> None:
    op.create_table(
        "certificate_history",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_certificate_history"),
    )
    op.create_index("ix_certificate_history_entity_id_sha256", "certificate_history", ["entity_id", "sha256"])
    op.create_table(
        "rollovers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("document_sha256", sa.Text(), nullable=False),
        sa.Column("certificates", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("expected", sa.Text(), nullable=False),
        sa.Column("presented", sa.Text(), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("sightings", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.BigInteger()),
        sa.Column("decided_by", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["idps.entity_id"], name="fk_rollovers_entity_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rollovers"),
    )
    op.create_index("ix_rollovers_entity_id_state", "rollovers", ["entity_id", "state"])
    op.create_table(
        "unknown_signers",
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("certificate_sha256", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("denials", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "certificate_sha256", name="pk_unknown_signers"),
    )
    op.create_table(
        "usage",
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("certificate_sha256", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("sign_ins", sa.BigInteger(), nullable=False),
        sa.Column("launches", sa.BigInteger(), nullable=False),
        sa.Column("late_sign_ins", sa.BigInteger(), nullable=False),
        sa.Column("first_sign_in", sa.BigInteger()),
        sa.Column("last_sign_in", sa.BigInteger()),
        sa.PrimaryKeyConstraint("entity_id", "certificate_sha256", "day", name="pk_usage"),
    )
    op.create_table(
        "alarms",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.Column("cleared_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq", name="pk_alarms"),
    )
    op.create_index("ix_alarms_cleared_at", "alarms", ["cleared_at"])


def _sources() -> None:
    op.create_table(
        "sources",
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("ca_pem", sa.Text()),
        sa.Column("pin_sha256", sa.Text()),
        sa.Column("metadata_certificate", sa.LargeBinary()),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["idps.entity_id"], name="fk_sources_entity_id"),
        sa.PrimaryKeyConstraint("entity_id", name="pk_sources"),
    )
    op.create_table(
        "source_states",
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=False),
        sa.Column("jitter", sa.Float(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("attempted_at", sa.BigInteger()),
        sa.Column("succeeded_at", sa.BigInteger()),
        sa.Column("changed_at", sa.BigInteger()),
        sa.Column("hastened_at", sa.BigInteger()),
        sa.Column("etag", sa.Text()),
        sa.Column("last_modified", sa.Text()),
        sa.Column("document_sha256", sa.Text()),
        sa.Column("created", sa.BigInteger()),
        sa.Column("valid_until", sa.BigInteger()),
        sa.Column("cache_duration_us", sa.BigInteger()),
        sa.Column("served_at", sa.BigInteger()),
        sa.Column("problem", sa.Text()),
        sa.Column("problem_text", sa.Text()),
        sa.Column("problem_since", sa.BigInteger()),
        sa.Column("claimed_by", sa.Text()),
        sa.Column("claimed_until", sa.BigInteger()),
        sa.Column("epoch", sa.BigInteger(), nullable=False, server_default="0"),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["sources.entity_id"], name="fk_source_states_entity_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("entity_id", name="pk_source_states"),
    )
    op.create_index("ix_source_states_next_attempt_at", "source_states", ["next_attempt_at"])
