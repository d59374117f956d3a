"""Embeddings to serving tables: smaller, quantised, partitioned as wanted, incremental and atomic."""
