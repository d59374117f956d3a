"""How good a model's vectors are at each dimension and in each type, against judgements made by people.

`rank` ranks vectors as they would be stored, `metrics` scores rankings; `retrieval` is a data set in BEIR's
layout through both, and `tasks` is the `mteb` library with this package's encoder.
"""
