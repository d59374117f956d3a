"""Embed: rows and tokens a second of the whole job, beside the bare encoder on the same rows."""

import json
import os
import tempfile
from pathlib import Path

from pipelines.embed.config import EmbedConfig, RayConfig
from pipelines.embed.run import embed
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.progress import Silent
from tests.benchmarks.corpus import curated
from tests.benchmarks.measure import fastest, measured

_DOCUMENTS = 4000


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    conf = load_model_conf("minilm")
    with tempfile.TemporaryDirectory() as folder:
        lake, _ = curated(Path(folder), _DOCUMENTS, conf)
        with measured() as whole:
            report = embed(lake, conf, EmbedConfig(), RayConfig(), Silent())
        ids = (
            lake.table("chunks")
            .scan(selected_fields=("input_ids",))
            .to_arrow()
            .column("input_ids")
            .to_pylist()
        )
    encoder = Encoder.load(
        conf, device="cpu", precision=report.precision, threads=len(os.sched_getaffinity(0))
    )
    inputs = [encoder.tokenizer.model_input(row, conf.prefix("document")) for row in ids]
    tokens = sum(map(len, inputs))
    bare, _ = fastest(1, lambda: encoder.encode_ids(inputs))
    rows_s = report.rows / report.encoding_seconds
    rows = [
        {
            "what": f"{report.rows:,} rows, {report.tokens:,} tokens, {report.precision}, start of Ray apart",
            "figure": f"{report.tokens_per_second:,.0f} tokens/s, {rows_s:,.0f} rows/s",
            "beside": f"the bare encoder: {tokens / bare:,.0f} tokens/s",
        },
        {"what": "the same, whole job", "figure": f"{report.seconds:.1f} s", "beside": ""},
        {
            "what": "peak memory of all processes",
            "figure": f"{whole.peak_mib:,.0f} MiB",
            "beside": "limit 8,192 MiB",
        },
    ]
    print(json.dumps(rows))  # noqa: T201


if __name__ == "__main__":
    main()
