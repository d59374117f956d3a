"""The embedlake library: the foundations `lake`, `encoder` and `cluster`, and one package per stage."""
