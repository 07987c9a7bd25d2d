"""What people do to the trust in IdPs: one place for the command line and the admin API."""
