"""The encoder: tokens a second, beside sentence-transformers and beside the processor's matrix product.

Everything is measured in turn, several times, and the fastest of each counts: machines have slow moments.
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoConfig

from pipelines.encoder.backends.choose import BackendName
from pipelines.encoder.conf import ModelConf, load_model_conf, model_folder
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.model import Encoder
from tests.encoder.texts import filled_chunks

_TEXTS = 500
_TIMES = 5
_PEER_TIMES = 2  # the slowest by far


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    conf = load_model_conf("minilm")
    cores = len(os.sched_getaffinity(0))
    names: tuple[BackendName, ...] = ("auto", "torch", "openvino")
    encoders, loads = {}, {}
    for name in names:
        started = perf_counter()
        encoders[name] = Encoder.load(conf, device="cpu", threads=cores, backend=name)
        loads[name] = perf_counter() - started
    auto = encoders.pop("auto")
    chosen = "openvino" if auto.described.startswith("openvino") else "torch"
    texts = filled_chunks(auto.tokenizer, _TEXTS, most=254)
    rows = auto.tokenizer.model_inputs(texts, conf.prefix("document"))
    peer = _peer(conf)
    dtype = getattr(torch, auto.precision)
    large, own = _large(dtype), _own_shapes(conf, dtype)
    actions: dict[str, Callable[[], Any]] = {
        "peer": lambda: peer.encode(texts, normalize_embeddings=True),
        **{name: partial(_from_texts, encoder, texts) for name, encoder in encoders.items()},
    }
    seconds = dict.fromkeys([*actions, "large", "own"], float("inf"))
    results: dict[str, Any] = {}
    for turn in range(_TIMES):
        for label, action in actions.items():
            if label != "peer" or turn < _PEER_TIMES:
                _time(label, action, seconds, results)
            for _ in range(3):
                _time("large", large[0], seconds, results)
                _time("own", own[0], seconds, results)
    tokens = sum(map(len, rows))
    per_token = flops(conf, [len(row) for row in rows]) / tokens
    peak, reach = large[1] / seconds["large"], own[1] / seconds["own"]
    speed = tokens / seconds[chosen]
    cosine = float((results[chosen].vectors_ND * results["peer"]).sum(axis=1).min())
    times = seconds["peer"] / seconds[chosen]
    wanted = 4.5 if "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8") else 2.5
    what = f"{len(rows):,} texts, {tokens:,} tokens, tokenizing included, {cores} threads, {auto.precision}"
    print(  # noqa: T201
        json.dumps(
            [
                {
                    "what": what,
                    "figure": f"{speed:,.0f} tokens/s, lowest cosine {cosine:.5f}, "
                    f"padding {results[chosen].padding:.1%}",
                    "beside": f"sentence-transformers: {tokens / seconds['peer']:,.0f} "
                    f"({times:.1f}x, wanted {wanted}x)",
                },
                {
                    "what": f"matrix work, {per_token / 1e6:.1f} MFLOP a token",
                    "figure": f"{speed * per_token / 1e9:,.0f} GFLOP/s",
                    "beside": f"product of 4,096² in {auto.precision}: {peak / 1e9:,.0f} "
                    f"({speed * per_token / peak:.0%}, wanted 70%); the layers' own products alone, at 4,096 "
                    f"tokens: {reach / 1e9:,.0f} ({speed * per_token / reach:.0%})",
                },
                {
                    "what": "backends, and seconds to load",
                    "figure": f"{auto.described}; {loads['auto']:.1f} s",
                    "beside": "; ".join(
                        f"{name} {tokens / seconds[name]:,.0f} tokens/s, {loads[name]:.1f} s"
                        for name in names[1:]
                    ),
                },
            ]
        )
    )


def flops(conf: ModelConf, lengths: Sequence[int]) -> float:
    """Floating point operations of the model's matrix products for rows of these lengths, padding left out.

    Two a weight of each linear layer and token, and 4 x length x dimension a token and layer for attention.
    """
    config = AutoConfig.from_pretrained(model_folder(conf), local_files_only=True)
    hidden, layers = config.hidden_size, config.num_hidden_layers
    weights = layers * (4 * hidden * hidden + 2 * hidden * config.intermediate_size)
    lengths_N = np.asarray(lengths, dtype=np.float64)
    return float(2 * weights * lengths_N.sum() + 4 * layers * hidden * (lengths_N**2).sum())


def _from_texts(encoder: Encoder, texts: Sequence[str]) -> Encoded:
    return encoder.encode(encoder.tokenizer.model_inputs(texts, encoder.conf.prefix("document")))


def _peer(conf: ModelConf) -> Any:
    transformer = Transformer(str(model_folder(conf)), max_seq_length=conf.max_tokens)
    return SentenceTransformer(modules=[transformer, Pooling(conf.dimension)], device="cpu")


def _large(dtype: torch.dtype, side: int = 4096) -> tuple[Callable[[], Any], float]:
    """A large square product, and its operations."""
    a, b, out = (torch.randn(side, side).to(dtype) for _ in range(3))
    return lambda: torch.matmul(a, b, out=out), 2.0 * side**3


def _own_shapes(conf: ModelConf, dtype: torch.dtype, tokens: int = 4096) -> tuple[Callable[[], Any], float]:
    """One layer's four products with nothing between them, and their operations."""
    config = AutoConfig.from_pretrained(model_folder(conf), local_files_only=True)
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes = ((hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden))
    pairs = [
        (torch.randn(tokens, k).to(dtype), torch.randn(k, n).to(dtype), torch.empty(tokens, n, dtype=dtype))
        for k, n in shapes
    ]

    def multiply() -> None:
        for x, weight, out in pairs:
            torch.matmul(x, weight, out=out)

    return multiply, sum(2.0 * tokens * k * n for k, n in shapes)


def _time(name: str, action: Callable[[], Any], seconds: dict[str, float], results: dict[str, Any]) -> None:
    started = perf_counter()
    results[name] = action()
    seconds[name] = min(seconds[name], perf_counter() - started)


if __name__ == "__main__":
    main()
