"""Curate: documents and tokens a second of the whole job, beside the tokenizer alone."""

import json
import os
import tempfile
from pathlib import Path

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.tokenizer import Tokenizer
from tests.benchmarks.corpus import curated
from tests.benchmarks.measure import fastest, measured

_DOCUMENTS = 8000


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    model = load_model_conf("minilm")
    with tempfile.TemporaryDirectory() as folder:
        with measured() as whole:
            lake, report = curated(Path(folder), _DOCUMENTS, model)
        chunks = lake.table("chunks").scan(selected_fields=("text", "n_tokens")).to_arrow()
    texts = chunks.column("text").to_pylist()
    tokens = sum(chunks.column("n_tokens").to_pylist())
    tokenizer = Tokenizer.load(model)
    alone, _ = fastest(3, lambda: [tokenizer.encode(text) for text in texts])
    documents_s, tokens_s = report.given / report.seconds, tokens / report.seconds
    rows = [
        {
            "what": f"{report.given:,} documents, {tokens:,} tokens, session start included",
            "figure": f"{documents_s:,.0f} documents/s, {tokens_s:,.0f} tokens/s",
            "beside": f"the tokenizer alone, one core: {tokens / alone:,.0f} tokens/s",
        },
        {
            "what": "peak memory of all processes",
            "figure": f"{whole.peak_mib:,.0f} MiB",
            "beside": "limit 8,192 MiB",
        },
    ]
    print(json.dumps(rows))  # noqa: T201


if __name__ == "__main__":
    main()
