"""The service judged by what identity providers that nobody here wrote really send."""
