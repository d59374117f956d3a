"""Near duplicates: shingles, MinHash, buckets, verified pairs, and who of them is kept."""
