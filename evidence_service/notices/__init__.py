"""What people are told, as values: which message says what, to whom, and how soon somebody should look."""
