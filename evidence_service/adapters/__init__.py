"""Drivers for databases and files; they know the core's models and no web."""
