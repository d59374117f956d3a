"""A disk that fills up under a job: one line, nothing lost, and the same command goes on with room again."""

import json
import random
from pathlib import Path

import pytest

from tests.disks import filled, small_disk
from tests.e2e.cli import embedlake

pytestmark = pytest.mark.usefixtures("spark", "ray_session")


def test_a_full_disk_ends_each_job_with_one_line_and_loses_nothing(tmp_path: Path) -> None:
    noise = random.Random(5)
    rows = [{"doc_id": f"d{n}", "text": f"text {n}", "big": noise.randbytes(2000).hex()} for n in range(120)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with small_disk(tmp_path / "disk", "30m") as disk:
        options = ["--lake", str(disk / "lake"), "--set", "lake.buckets=2"]
        # What is free holds the tables' first metadata, and neither the chunks nor the vectors.
        for command, free in ((["curate", str(tmp_path / "in.jsonl")], 150_000), (["embed"], 100_000)):
            with filled(disk, free):
                full = embedlake(*command, *options)
            assert full.code == 1, full.err
            assert "error: the disk is full (" in full.err.splitlines()[-1]
            assert "Traceback" not in full.err
            done = embedlake(*command, *options)
            assert done.code == 0, done.err
        status = embedlake("status", "--json", *options).json()
    assert status["balanced"]
    assert (status["documents"], status["kept"]) == (120, 120)
    (model,) = status["embeddings"].values()
    assert model == {"rows": status["chunks"], "pending": 0, "rejects": 0}
