"""Inputs: which files and tables there are, and the raw records in them."""
