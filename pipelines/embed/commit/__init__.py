"""Finished units into the tables, each chunk once; and out of them what has no chunk any more."""
