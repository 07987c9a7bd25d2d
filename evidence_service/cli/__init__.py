"""The command line: `fas-evidence NOUN VERB`."""
