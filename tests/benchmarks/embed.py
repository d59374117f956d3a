"""Embed: rows and tokens a second of the whole job, beside the bare encoder on the same rows."""

import json
import os
import tempfile
from pathlib import Path

from pipelines.cluster.config import RayConfig
from pipelines.embed.config import EmbedConfig
from pipelines.embed.run import embed
from pipelines.encoder.backends.choose import BackendName
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.progress import Silent
from tests.benchmarks.corpus import curated
from tests.benchmarks.measure import fastest

_DOCUMENTS = 1500


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    conf = load_model_conf("minilm")
    encoder = Encoder.load(conf, device="cpu", threads=len(os.sched_getaffinity(0)), backend="auto")
    # The same for both: what a calibration chooses may differ where two are about as fast.
    backend: BackendName = "openvino" if encoder.described.startswith("openvino") else "torch"
    with tempfile.TemporaryDirectory() as folder:
        lake, _ = curated(Path(folder), _DOCUMENTS, conf)
        report = embed(lake, conf, EmbedConfig(backend=backend), RayConfig(), Silent())
        ids = lake.table("chunks").scan(selected_fields=("input_ids",)).to_arrow().column("input_ids")
    inputs = [encoder.tokenizer.model_input(row, conf.prefix("document")) for row in ids.to_pylist()]
    seconds, bare = fastest(2, lambda: encoder.encode(inputs))
    bare_speed = bare.tokens / seconds
    rows = [
        {
            "what": f"{report.rows:,} rows, {report.tokens:,} tokens, {backend}, {report.precision}, start "
            "of Ray apart",
            "figure": f"{report.tokens_per_second:,.0f} tokens/s, padding {report.padding:.1%}, encoders "
            f"busy {report.busy:.0%}",
            "beside": f"the bare encoder on all rows at once: {bare_speed:,.0f} tokens/s, padding "
            f"{bare.padding:.1%} ({report.tokens_per_second / bare_speed:.0%}, wanted 90%)",
        },
        {
            "what": "the same, whole job",
            "figure": f"{report.seconds:.1f} s",
            "beside": "",
        },
    ]
    print(json.dumps(rows))  # noqa: T201


if __name__ == "__main__":
    main()
