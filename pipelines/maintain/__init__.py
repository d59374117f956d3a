"""Keeps the tables small and quick, on Spark: compaction, deletes, manifests, snapshots, orphan files."""
