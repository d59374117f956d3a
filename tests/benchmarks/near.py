"""Near dedup on real near duplicates: recall against brute force, false removals, speed beside datatrove."""

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.config import CurateConfig
from pipelines.curate.read.inputs import Input, list_inputs, read_inputs
from pipelines.curate.removals import NOTHING_REMOVED
from pipelines.curate.run import Run
from pipelines.dedup.candidates import candidate_pairs
from pipelines.dedup.near import NearJudge
from pipelines.dedup.shingles import shingle
from pipelines.dedup.signing import signer
from pipelines.dedup.spark_sql import cut, place_of
from pipelines.dedup.verify import verified_edges
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session, start_workers
from pipelines.progress import Silent
from pipelines.text import normalise, text_hash
from tests.benchmarks.debian import Document, debian_descriptions, linux_docs, write_jsonl
from tests.benchmarks.measure import fastest
from tests.benchmarks.near_truth import NearPairs, check, near_pairs
from tests.benchmarks.peer import datatrove_seconds

_CONFIG = CurateConfig()
_BATCH = 1000


def main() -> None:
    """Prints the rows of `python -m tests.benchmarks`."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = Lake.open(LakeConfig(dir=folder / "lake", buckets=4))
        debian, linux = debian_descriptions(), linux_docs()
        rows.append(_signatures(debian, folder))
        with spark_session(lake, SparkConfig()) as spark:
            start_workers(spark)
            for what, documents in (("Debian descriptions", debian), ("linux-doc, two versions", linux)):
                rows += _recall(spark, what, documents)
            rows += _whole(spark, lake, debian, folder)
    print(json.dumps(rows))  # noqa: T201


def _signatures(documents: Sequence[Document], folder: Path) -> dict[str, str]:
    """Signatures a second on one core, from texts, beside datatrove's signature step."""
    sign = signer(_CONFIG.near)
    assert sign is not None
    texts = [normalise(one.text) for one in documents]
    batches = [pa.array(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
    ours, _ = fastest(3, lambda: [sign(batch) for batch in batches])
    sample = documents[:20_000]
    write_jsonl(sample, folder / "sample", 1)
    theirs = datatrove_seconds(folder / "sample", workers=1, steps=("signature",))["seconds"]["signature"]
    mine, other = len(documents) / ours, len(sample) / theirs
    return {
        "what": f"signatures of {len(documents):,} Debian descriptions, one core",
        "figure": f"{mine:,.0f} documents/s",
        "beside": f"datatrove's signature step on 20,000 of them: {other:,.0f} ({mine / other:.0f}x)",
    }


def _recall(spark: SparkSession, what: str, documents: Sequence[Document]) -> list[dict[str, str]]:
    """The share of all pairs of at least the threshold that are found, and whether all found are such."""
    texts = {text_hash(text): text for text in (normalise(one.text) for one in documents)}
    hashes = sorted(texts)
    ordered = pa.array([texts[one] for one in hashes])
    found = shingle(ordered, _CONFIG.near.shingle_words)
    each = [np.unique(one) for one in np.split(found.hashes, found.offsets[1:-1])]
    started = perf_counter()
    truth = near_pairs(each, _CONFIG.near.threshold)
    checked = check(each, truth, _CONFIG.near.threshold)
    seconds = perf_counter() - started
    edges = _edges(spark, hashes, ordered)
    names = dict(
        zip(zip(truth.first.tolist(), truth.second.tolist(), strict=True), truth.similarity, strict=True)
    )
    got = {
        (min(row["earlier"], row["later"]), max(row["earlier"], row["later"])): row["similarity"]
        for row in edges.toArrow().to_pylist()
    }
    wrong = [pair for pair, similarity in got.items() if abs(names.get(pair, 0) - similarity) > 1e-12]
    return [
        {
            "what": f"{what}: recall of pairs, J >= {_CONFIG.near.threshold}, {len(each):,} distinct texts",
            "figure": f"{len(got) / len(names):.4f} ({len(got):,} of {len(names):,})",
            "beside": f"brute force in {seconds:.0f} s, {checked} of its pairs checked one by one",
        },
        {
            "what": f"{what}: pairs found that are none, or with another similarity",
            "figure": str(len(wrong)),
            "beside": f"by similarity: {_by_similarity(names, got, truth)}",
        },
    ]


def _edges(spark: SparkSession, hashes: Sequence[str], texts: pa.Array) -> DataFrame:
    sign = signer(_CONFIG.near)
    assert sign is not None
    bands = pa.concat_arrays([sign(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)])
    columns = {"node": np.arange(len(texts)), "text_hash": pa.array(hashes), "bands": bands, "text": texts}
    frame = cut(spark.createDataFrame(pa.table(columns)))
    nodes = frame.selectExpr("node", "text_hash", "struct(text_hash) place", "bands", "true is_open")
    nodes = nodes.where("bands is not null")
    pairs = cut(candidate_pairs(nodes, _CONFIG.near))
    lengths = frame.selectExpr("text_hash", "length(text) n_chars", "text")
    return verified_edges(pairs, nodes, lengths, _CONFIG.near, 2)


def _by_similarity(
    names: dict[tuple[int, int], float], got: dict[tuple[int, int], float], truth: NearPairs
) -> str:
    """Recall in bands of similarity."""
    parts = []
    for low, high in ((0.8, 0.85), (0.85, 0.9), (0.9, 1.01)):
        count = int(np.sum((truth.similarity >= low) & (truth.similarity < high)))
        hit = sum(low <= names[pair] < high for pair in got if pair in names)
        parts.append(f"{low}-{min(high, 1)}: {hit / count:.3f} of {count:,}" if count else f"{low}: none")
    return ", ".join(parts)


def _whole(
    spark: SparkSession, lake: Lake, documents: Sequence[Document], folder: Path
) -> list[dict[str, str]]:
    """From files to files of the kept texts on two cores, beside datatrove's four steps on the same files."""
    write_jsonl(documents, folder / "in", 4)
    lake.ensure_tables()
    listed = list_inputs([str(folder / "in")], _CONFIG, lake)
    ours, kept = fastest(4, lambda: _near_dedup(spark, lake, listed, folder / "out"))
    run = Run(spark, lake, load_model_conf("minilm"), _CONFIG, Silent(), "bench")
    started = perf_counter()
    given, counts = run.enter(listed, [], NOTHING_REMOVED)
    ledger = perf_counter() - started
    result = datatrove_seconds(folder / "in", workers=2)
    theirs = sum(result["seconds"].values())
    steps = ", ".join(f"{name} {value:.0f}" for name, value in result["seconds"].items())
    beside = f"datatrove's four steps, 2 workers: {theirs:.0f} s ({steps}); "
    return [
        {
            "what": f"near dedup of {given:,} Debian descriptions, JSONL to kept JSONL, session start apart",
            "figure": f"{ours:.1f} s, {given / ours:,.0f} documents/s; {kept:,} kept",
            "beside": beside + f"{theirs / ours:.1f}x; {result['documents_out']:,} kept, unverified",
        },
        {
            "what": "the same as a run of curate: ids, versions and rejects judged, and the ledger written",
            "figure": f"{ledger:.1f} s, {given / ledger:,.0f} documents/s; {counts.kept:,} kept",
            "beside": f"{theirs / ledger:.1f}x",
        },
    ]


def _near_dedup(spark: SparkSession, lake: Lake, listed: Sequence[Input], out: Path) -> int:
    """Reads, signs, judges, and writes what is kept; how many those are."""
    records = read_inputs(spark, listed, _CONFIG, lake, datetime.now(UTC)).persist(StorageLevel.DISK_ONLY)
    documents = records.where("reason is null").withColumn("place", place_of(()))
    nodes = NearJudge(spark, _CONFIG.near, documents).judge(documents, None).nodes
    removed = nodes.where("keeper is not null").select("text_hash")
    kept = documents.join(F.broadcast(removed), "text_hash", "left_anti").select("doc_id", "text")
    kept.write.mode("overwrite").json(str(out))
    records.unpersist()
    return spark.read.schema("doc_id string").json(str(out)).count()


if __name__ == "__main__":
    main()
