"""The corpus of the benchmarks: docstrings of the installed packages, curated into a lake where asked."""

from pathlib import Path

from jobs.demo_corpus import write_demo_corpus
from pipelines.curate.config import CurateConfig
from pipelines.curate.report import CurateReport
from pipelines.curate.run import curate
from pipelines.encoder.conf import ModelConf
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.progress import Silent


def corpus(folder: Path, documents: int) -> Path:
    """A folder with that many docstrings."""
    write_demo_corpus(folder, documents)
    return folder


def curated(folder: Path, documents: int, model: ModelConf) -> tuple[Lake, CurateReport]:
    """A local lake with the corpus's chunks."""
    lake = Lake.open(LakeConfig(dir=folder / "lake", buckets=4))
    report = curate(
        lake, [str(corpus(folder / "in", documents))], model, CurateConfig(), SparkConfig(), Silent()
    )
    return lake, report
