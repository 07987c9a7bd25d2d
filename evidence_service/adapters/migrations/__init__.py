"""Schema revisions, run by `evidence_service.adapters.database.upgrade`."""
