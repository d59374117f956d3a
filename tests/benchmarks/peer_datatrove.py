"""datatrove's four MinHash steps on a folder of JSON lines, timed one by one.

Run by the Python of an environment that has datatrove and not this project; see `peer.py`. Word 5-grams, 14
buckets of 8 hashes of 64 bits, English words; prints one line of JSON.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import spacy  # type: ignore[import-not-found]  # noqa: F401 - loaded here, so that no step's time has it
from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
from datatrove.pipeline.base import PipelineStep  # type: ignore[import-not-found]
from datatrove.pipeline.dedup import (  # type: ignore[import-not-found]
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]
from datatrove.pipeline.writers import JsonlWriter  # type: ignore[import-not-found]
from datatrove.utils.hashing import HashConfig  # type: ignore[import-not-found]
from datatrove.utils.typeshelper import Languages  # type: ignore[import-not-found]

STEPS = ("signature", "buckets", "cluster", "filter")
_CONFIG = MinhashConfig(
    n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(precision=64, hash_fc="xxhash")
)


def main() -> None:
    """Runs the first so many steps and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="*.jsonl with doc_id and text, a task for each file")
    parser.add_argument("out", type=Path, help="an empty folder")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=len(STEPS), help="how many of the four, from the first")
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.jsonl"))
    seconds = {}
    for step in STEPS[: given.steps]:
        pipeline, tasks = _PIPELINES[step](given.folder, given.out)
        executor = LocalPipelineExecutor(
            pipeline,
            tasks=tasks or len(files),
            workers=given.workers if tasks != 1 else 1,
            logging_dir=str(given.out / "logs" / step),
        )
        started = perf_counter()
        executor.run()
        seconds[step] = perf_counter() - started
    result = {"workers": given.workers, "seconds": seconds, "documents_in": len(_ids(files))}
    if "filter" in seconds:
        kept = _ids(sorted((given.out / "kept").glob("*.jsonl")), key="id")
        file = given.out / "kept_ids.txt"
        file.write_text("".join(f"{doc_id}\n" for doc_id in kept), encoding="utf-8")
        result |= {"documents_out": len(kept), "kept_ids": str(file)}
    print(json.dumps(result))  # noqa: T201


def _signature(folder: Path, out: Path) -> tuple[list[PipelineStep], int]:
    sign = MinhashDedupSignature(str(out / "signatures"), config=_CONFIG, language=Languages.english)
    return [_reader(folder), sign], 0


def _buckets(_: Path, out: Path) -> tuple[list[PipelineStep], int]:
    match = MinhashDedupBuckets(str(out / "signatures"), str(out / "buckets"), config=_CONFIG)
    return [match], _CONFIG.num_buckets


def _cluster(_: Path, out: Path) -> tuple[list[PipelineStep], int]:
    return [MinhashDedupCluster(str(out / "buckets"), str(out / "removed"), config=_CONFIG)], 1


def _filter(folder: Path, out: Path) -> tuple[list[PipelineStep], int]:
    keep = MinhashDedupFilter(str(out / "removed"))
    return [_reader(folder), keep, JsonlWriter(str(out / "kept"), compression=None)], 0


def _reader(folder: Path) -> JsonlReader:
    return JsonlReader(str(folder), id_key="doc_id", glob_pattern="*.jsonl")


def _ids(files: list[Path], key: str = "doc_id") -> list[str]:
    ids = []
    for file in files:
        with file.open(encoding="utf-8") as lines:
            ids += [json.loads(line)[key] for line in lines]
    return ids


# Each step's pipeline, and its tasks: 0 for a task for each file.
_PIPELINES: dict[str, Callable[[Path, Path], tuple[list[PipelineStep], int]]] = {
    "signature": _signature,
    "buckets": _buckets,
    "cluster": _cluster,
    "filter": _filter,
}


if __name__ == "__main__":
    main()
