"""The run: everything that happens between a profile and a finished file."""
