"""The encoder: tokens a second, beside sentence-transformers on the same texts and cores."""

import json
import os

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from pipelines.encoder.conf import load_model_conf, model_folder
from pipelines.encoder.model import Encoder
from tests.benchmarks.measure import fastest
from tests.encoder.texts import chunks

_TEXTS = 600


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    conf = load_model_conf("minilm")
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    encoder = Encoder.load(conf, device="cpu", threads=cores)
    pieces = chunks(encoder.tokenizer, 4 * _TEXTS)
    texts = [" ".join(pieces[at::_TEXTS]) for at in range(_TEXTS)]
    rows = encoder.tokenizer.model_inputs(texts, conf.prefix("document"))
    tokens = sum(len(row) for row in rows)
    ours, vectors = fastest(3, lambda: encoder.encode_ids(rows))
    transformer = Transformer(str(model_folder(conf)), max_seq_length=conf.max_tokens)
    peer = SentenceTransformer(modules=[transformer, Pooling(conf.dimension)], device="cpu")
    theirs, expected = fastest(1, lambda: peer.encode(texts, normalize_embeddings=True))
    lowest = float((vectors * expected).sum(axis=1).min())
    result = [
        {
            "what": f"{len(texts):,} texts, {tokens:,} tokens, {cores} threads, {encoder.precision}",
            "figure": f"{tokens / ours:,.0f} tokens/s, lowest cosine {lowest:.5f}",
            "beside": f"sentence-transformers from text: {tokens / theirs:,.0f} ({theirs / ours:.1f}x)",
        }
    ]
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
