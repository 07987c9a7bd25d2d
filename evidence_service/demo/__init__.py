"""A small identity provider and a story told with it, for `fas-evidence demo` and the tests."""
