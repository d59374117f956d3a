"""Filter and hard negatives of WordNet's glosses, beside sentence-transformers' mine_hard_negatives.

Both embed both sides by MiniLM and look for twenty negatives among the first two hundred, none above 95 % of
the positive's score; the filter is ours alone. Starts of sessions are counted.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from pipelines.config import parse
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.pairs.config import PairsConfig
from pipelines.pairs.run import make_pairs
from pipelines.progress import Silent
from tests.benchmarks.measure import Measured, measured
from tests.benchmarks.small.texts import weak_pairs

_NEGATIVES, _DEPTH = 20, 200


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    with TemporaryDirectory() as folder:
        lake = Lake.open(LakeConfig(dir=Path(folder) / "lake"))
        lake.ensure_namespace()
        texts = [pair for pair in weak_pairs() if pair.source == "wordnet"]
        rows = pa.table({"q": [pair.query for pair in texts], "d": [pair.document for pair in texts]})
        lake.catalog.create_table(lake.identifier("given"), rows.schema).append(rows)
        source = {"name": "wordnet", "table": "embedlake.given", "query": "q", "document": "d"}
        make_pairs(lake, parse(PairsConfig, {"sources": [source]}, "the benchmark"), SparkConfig(), Silent())
        kept = lake.table("pairs").scan(row_filter="outcome = 'kept'", selected_fields=("query", "document"))
        pairs = Path(folder) / "pairs.jsonl"
        with pairs.open("w", encoding="utf-8") as out:
            for row in kept.to_arrow().to_pylist():
                out.write(json.dumps(row) + "\n")
        ours = _timed(lambda: _ours(lake))
        theirs = _timed(lambda: _run([sys.executable, "-m", "tests.benchmarks.mine_peer", str(pairs)]))
        count = len(pairs.read_text(encoding="utf-8").splitlines())
    times, share = theirs.seconds / ours.seconds, ours.peak_mib / theirs.peak_mib
    row = {
        "what": f"filter and mine, {count:,} pairs, MiniLM, embedding included",
        "figure": f"{ours.seconds:,.0f} s, {ours.peak_mib:,.0f} MiB in all processes "
        f"(JVM {ours.peak_java_mib:,.0f})",
        "beside": f"mine_hard_negatives, defaults: {theirs.seconds:,.0f} s, {theirs.peak_mib:,.0f} MiB "
        f"({times:.1f}x, wanted 2x; memory {share:.2f}x, wanted 0.5x)",
    }
    print(json.dumps([row]))  # noqa: T201


def _ours(lake: Lake) -> None:
    settings = [f"--set=mine.negatives.k={_NEGATIVES}", f"--set=mine.negatives.depth={_DEPTH}"]
    for command in ("filter", "mine"):
        _run([sys.executable, "-m", "jobs.cli", "--lake", str(lake.config.root), *settings, command])


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=sys.stderr, check=True)


def _timed(action: Callable[[], object]) -> Measured:
    with measured() as result:
        action()
    return result


if __name__ == "__main__":
    main()
