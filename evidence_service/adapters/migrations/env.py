"""Runs the revisions on the connection, and in the transaction, that the caller holds."""

from __future__ import annotations

from alembic import context

from evidence_service.adapters.database import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
