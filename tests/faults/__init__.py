"""Whole runs of the embed stage under faults that a seed decides: `python -m tests.faults --seed 7`."""
