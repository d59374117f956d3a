"""`embedlake curate` as processes of its own: killed at each write, and two of them at once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pyiceberg.exceptions import NoSuchTableError

from pipelines.lake import Lake
from tests.curate.test_incremental import Corpus
from tests.dedup.oracle import Doc, families

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spark")]


def written(folder: Path, docs: list[Doc]) -> Path:
    folder.mkdir()
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc.row()) + "\n" for doc in docs))
    return folder


def started(corpus: Corpus, source: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.cli", "curate", str(source), "--lake", str(corpus.folder / "lake")]
    command += ["--set", "lake.buckets=2"]
    # A session of its own, so that a kill reaches its JVM and its workers too.
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)


def has_branch(table: str) -> Callable[[Lake], bool]:
    return lambda lake: len(lake.catalog.load_table(lake.identifier(table)).metadata.refs) > 1


def has_rows(table: str, more_than: int = 0) -> Callable[[Lake], bool]:
    return lambda lake: lake.catalog.load_table(lake.identifier(table)).scan().count() > more_than


def killed_when(process: subprocess.Popen[str], lake: Lake, moment: Callable[[Lake], bool]) -> bool:
    """Kills the process once the moment has come; False where it ended before."""
    while process.poll() is None:
        try:
            if moment(lake):
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return True
        except NoSuchTableError:
            pass
        time.sleep(0.02)  # between two looks
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return False


def test_killed_at_each_write_and_run_again_the_tables_are_as_if_it_had_not_been(tmp_path: Path) -> None:
    docs = list(families(random.Random(4), 300, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    first = written(tmp_path / "first", docs[:150])
    both = written(tmp_path / "both", docs)
    moments = [
        (first, has_branch("documents")),
        (first, has_rows("documents")),
        (first, has_rows("chunks")),
        (both, has_rows("documents", 150)),
        (both, has_branch("chunks")),
        (both, has_rows("duplicates", 60)),
    ]
    killed = [killed_when(started(corpus, source), corpus.lake, moment) for source, moment in moments]
    assert sum(killed) >= 4
    killed_when(started(corpus, both), corpus.lake, lambda _: False)
    corpus.check(docs)


def test_a_jvm_that_is_killed_is_two_lines_and_the_next_run_goes_on(tmp_path: Path) -> None:
    docs = list(families(random.Random(6), 60, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    source = written(tmp_path / "docs", docs)
    process = started(corpus, source)
    while process.poll() is None:
        try:
            if has_branch("documents")(corpus.lake):
                break
        except NoSuchTableError:
            pass
        time.sleep(0.02)  # between two looks
    (java,) = [one for one in psutil.Process(process.pid).children() if one.name() == "java"]
    java.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: Spark's JVM has ended" in errors
    assert "Traceback" not in errors
    killed_when(started(corpus, source), corpus.lake, lambda _: False)
    corpus.check(docs)


def test_two_at_once_give_the_tables_of_one(tmp_path: Path) -> None:
    docs = list(families(random.Random(5), 200, 0, 10, "a"))
    corpus = Corpus(tmp_path)
    one = started(corpus, written(tmp_path / "one", docs))
    other = started(corpus, written(tmp_path / "other", docs[100:]))
    for process in (one, other):
        killed_when(process, corpus.lake, lambda _: False)
    corpus.check(docs)
