"""The encoder on a GPU: nomic-embed's architecture, random weights, bfloat16, beside sentence-transformers.

`python -m tests.benchmarks gpu`; where there is no GPU it says so and measures nothing.
"""

# ruff: noqa: N803  (array names carry their shape: lengths_N)

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import NomicBertConfig, NomicBertModel

from pipelines.encoder.backends.choose import BackendName
from pipelines.encoder.conf import ModelConf, load_model_conf, model_folder
from pipelines.encoder.model import Encoder
from tests.benchmarks.measure import fastest

_LENGTHS = (64, 512, 2048, 8192)
_TOKENS = 2**20  # of each measurement
_BATCH_TOKENS = 65_536


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    if not torch.cuda.is_available():
        print(json.dumps([{"what": "there is no GPU here", "figure": "nothing measured"}]))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as folder:
        conf = random_nomic(Path(folder))
        names: tuple[BackendName, ...] = ("torch", "compiled")
        encoders = {name: Encoder.load(conf, device="cuda", backend=name) for name in names}
        peak = _peak()
        rows = [row for length in _LENGTHS for row in _measure(conf, encoders, length, peak)]
    print(json.dumps(rows))  # noqa: T201


def random_nomic(folder: Path) -> ModelConf:
    """A checkpoint of nomic-embed-text-v1.5's size with random weights, and its configuration."""
    config = NomicBertConfig(vocab_size=30528, rope_parameters={"rope_type": "default", "rope_theta": 1000.0})
    NomicBertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer = model_folder(load_model_conf("minilm")) / "tokenizer.json"  # the same vocabulary
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    nomic = load_model_conf("nomic-embed-text-v1.5")
    random = {"hub": None, "revision": None, "weights_sha256": None, "path": folder, "name": "random-nomic"}
    return nomic.model_copy(update=random)


def _measure(
    conf: ModelConf, encoders: dict[BackendName, Encoder], length: int, peak: float
) -> list[dict[str, str]]:
    """Rows of about one length, as neighbours in the order of lengths are: up to a tenth shorter."""
    rng = np.random.default_rng(length)
    low = length - length // 10 if length <= 2048 else length  # beyond, a batch has rows of one length
    rows = [
        rng.integers(1000, 30000, size=size, dtype=np.int32)
        for size in rng.integers(low, length + 1, size=_TOKENS // length)
    ]
    tokens = sum(map(len, rows))
    work = flops(conf, encoders["torch"], np.array([len(row) for row in rows]))
    peer, setting = _peer(conf, rows)
    found = []
    for name, encoder in encoders.items():
        encoder.encode_ids(rows, _BATCH_TOKENS)
        seconds, _ = fastest(3, partial(encoder.encode_ids, rows, _BATCH_TOKENS))
        found.append(
            {
                "what": f"{length:,} tokens a row, {name}, {torch.cuda.get_device_name()}",
                "figure": f"{tokens / seconds:,.0f} tokens/s, {work / seconds / peak:.0%} of "
                f"{peak / 1e12:,.0f} TFLOP/s",
                "beside": f"sentence-transformers ({setting}) {tokens / peer:,.0f} ({peer / seconds:.1f}x)",
            }
        )
    return found


def flops(conf: ModelConf, encoder: Encoder, lengths_N: np.ndarray[Any, Any]) -> float:
    """Operations of the matrix products: two a weight and token, and attention's 4 x length x dimension."""
    config = NomicBertConfig.from_pretrained(model_folder(conf))
    hidden, layers = encoder.dimension, config.num_hidden_layers
    weights = layers * (4 * hidden * hidden + 3 * hidden * config.intermediate_size)
    return float(2 * weights * lengths_N.sum() + 4 * layers * hidden * (lengths_N.astype(float) ** 2).sum())


def _peer(conf: ModelConf, rows: list[np.ndarray[Any, Any]]) -> tuple[float, str]:
    """Seconds and name of sentence-transformers' fastest setting; texts are the ids' own words."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer

    folder = model_folder(conf)
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = raw.decode_batch([row.tolist() for row in rows])
    best, name = float("inf"), ""
    for dtype in (torch.bfloat16, torch.float16):
        for attention in ("sdpa", "flash_attention_2"):
            try:
                transformer = Transformer(
                    str(folder),
                    max_seq_length=len(rows[0]),
                    model_kwargs={"dtype": dtype, "attn_implementation": attention},
                )
                model = SentenceTransformer(modules=[transformer, Pooling(conf.dimension)], device="cuda")
                size = max(1, _BATCH_TOKENS // len(rows[0]))
                seconds, _ = fastest(2, partial(model.encode, texts, batch_size=size))
            except (ImportError, ValueError, RuntimeError):
                continue  # flash-attn is not installed, or cannot run this model
            if seconds < best:
                best, name = seconds, f"{dtype}, {attention}".removeprefix("torch.")
    return best, name


def _peak(side: int = 8192) -> float:
    """FLOP/s of a large product in bfloat16."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def multiply() -> None:
        for _ in range(10):
            torch.matmul(a, b)
        torch.cuda.synchronize()

    seconds, _ = fastest(5, multiply)
    return 10 * 2.0 * side**3 / seconds


if __name__ == "__main__":
    main()
