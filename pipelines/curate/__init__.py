"""Corpus to chunks, on Spark: read, normalise, reject with a reason, deduplicate, chunk."""
