"""The embedlake library: the foundations `lake` and `encoder`, and one package per stage."""
