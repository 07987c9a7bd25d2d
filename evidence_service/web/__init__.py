"""HTTP: the plug-in plane."""
