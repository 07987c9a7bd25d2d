"""What people do about renewals and see of them: the same for the command line and the API."""
