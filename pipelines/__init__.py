"""The embedlake library: foundations (`lake`, `encoder`, `cluster`, `dedup`), and one package per stage."""
