"""A model's configuration, tokenizer, identity and forward pass: under every stage that meets text.

`conf`, `tokenizer` and `fingerprint` import neither torch nor transformers, so that Spark workers and the
driver stay small; `model` does.
"""
