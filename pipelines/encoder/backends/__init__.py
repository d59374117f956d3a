"""Ways to run a model's forward pass: collated rows in, the mean of each row's token vectors out.

`padded` is transformers' own model, `fused` the same layers in oneDNN's packed form, `packed` rows without
padding on CUDA, `openvino` an optional package's compiled graph; `choose` picks one.
"""
