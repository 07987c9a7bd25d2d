"""The contract between plug-in and service, generated from `evidence_service/web/wire.py`."""
