"""Cases of access requests, one module per kind."""
