"""`python -m tests.maintain.beside --seed 0 --runs 20`: `maintain` again and again while other jobs run.

Each seed draws runs of `curate` that bring, change and delete documents, and how `maintain` is set: with
files so small that it really rewrites. All jobs are processes of their own. In the end the tables must be
those of the definition, and each chunk have its one embedding.
"""
# ruff: noqa: T201

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

from infra.local.seaweed import SeaweedServer
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import CatalogConfig, Lake, LakeConfig, S3Config
from tests.curate.test_incremental import Corpus
from tests.faults.check import wrong
from tests.faults.model import model_conf
from tests.maintain.schedule import CurateStep, Schedule, draw
from tests.maintain.worker import Worker
from tests.publish.lakes import expected_rows, serving_rows

# Jobs that run over and over beside `curate` and `maintain`: (name in `jobs.JOBS`, what it is asked).
BESIDE: tuple[tuple[str, Mapping[str, Any]], ...] = (("embed", {}), ("publish", {}))
Step = Callable[[Lake, Mapping[str, Any]], None]
# Where old files go at once, a reader may lose some, and says so; the next run of the same goes on.
_LOST = ("a file is gone", "FileNotFound", "NotFoundException", "NoSuchFile", "compacted and their old files")
_TRIES = 8
# Seconds. A job that finds nothing to do takes hundredths of one, and over and over keeps a core busy.
_PAUSE = 1.0


@dataclass
class Play:
    """One schedule on an empty lake.

    Attributes:
        schedule: It.
        lake: The lake.
        folder: For the inputs of `curate`.
        jobs: What does a step, by name: `curate`, `maintain`, and those beside.
        beside: As `BESIDE`.
        rounds: Steps of each job beside `curate`; as many as there is time for where None.
    """

    schedule: Schedule
    lake: Lake
    folder: Path
    jobs: Mapping[str, Step]
    beside: Sequence[tuple[str, Mapping[str, Any]]] = BESIDE
    rounds: int | None = None
    steps: "Counter[str]" = field(default_factory=Counter)
    lost: "Counter[str]" = field(default_factory=Counter)
    _ended: Event = field(default_factory=Event)

    def run(self) -> list[str]:
        """What is wrong in the end; nothing where all is exact."""
        self._inputs = [self._written(number, step) for number, step in enumerate(self.schedule.steps)]
        self._step("curate", self._inputs[0])  # until then there is nothing for the others
        with ThreadPoolExecutor(1 + len(self.beside)) as pool:
            running = [pool.submit(self._curate)]
            running += [pool.submit(self._over_and_over, name, asked) for name, asked in self.beside]
            try:
                self._over_and_over("maintain", self.schedule.maintain)
                for one in running:
                    one.result()
            finally:
                self._ended.set()
        # What they did last while others did, their next run finds.
        for name, asked in self.beside:
            self._step(name, asked)
        return self._wrong()

    def _curate(self) -> None:
        try:
            for asked in self._inputs[1:]:
                self._step("curate", asked)
        finally:
            self._ended.set()

    def _over_and_over(self, name: str, asked: Mapping[str, Any]) -> None:
        rounds = itertools.count() if self.rounds is None else range(self.rounds)
        for _ in rounds:
            if self.rounds is None and self._ended.is_set():
                return
            self._step(name, asked)
            if self.rounds is None:
                self._ended.wait(_PAUSE)

    def _step(self, name: str, asked: Mapping[str, Any]) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self.jobs[name](self.lake, asked)
            except Exception as error:
                is_lost = any(word in str(error) for word in _LOST)
                if self.schedule.keeps_files or not is_lost or not left:
                    raise
                self.lost[name] += 1
            else:
                self.steps[name] += 1
                return

    def _written(self, number: int, step: CurateStep) -> dict[str, Any]:
        folder = self.folder / f"in{number}"
        folder.mkdir(parents=True)
        (folder / "docs.jsonl").write_text("".join(json.dumps(doc.row()) + "\n" for doc in step.docs))
        deletes = self.folder / f"deletes{number}.txt"
        deletes.write_text("\n".join(step.deletes))
        return {"inputs": [str(folder)], "deletes": [str(deletes)] if step.deletes else []}

    def _wrong(self) -> list[str]:
        conf = model_conf()
        found = wrong(self.lake, describe_model(conf, "float32").key, Tokenizer.load(conf), conf.max_tokens)
        try:
            Corpus(self.folder, lake=self.lake).check(self.schedule.wanted)
        except AssertionError as error:
            found.append(f"the tables are not those of the definition: {error}"[:2000])
        if "publish" in dict(self.beside):
            columns = ("text", "metadata")
            if serving_rows(self.lake, "serving") != expected_rows(self.lake, "serving", columns):
                found.append("the serving table is not what its embeddings and chunks make")
        return found


def s3_config(server: SeaweedServer) -> LakeConfig:
    """An empty namespace of a REST catalogue on S3."""
    catalog = CatalogConfig(
        type="rest", uri=server.catalog_uri, auth="oauth2", oauth2_server_uri=server.oauth2_server_uri
    )
    return LakeConfig(
        namespace=f"b{uuid4().hex[:12]}",
        buckets=2,
        warehouse=server.warehouse,
        catalog=catalog,
        s3=S3Config(endpoint=server.s3_endpoint),
    )


def main() -> int:
    """Plays the seeds; 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.maintain.beside", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds")
    parser.add_argument("--lake", choices=("local", "s3", "both"), default="both", help="both take turns")
    options = parser.parse_args()
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        server = stack.enter_context(SeaweedServer(folder / "s3"))
        os.environ |= server.env()
        names = ["curate", "maintain", *(name for name, _ in BESIDE)]
        jobs = {name: stack.enter_context(Worker(name, folder / f"{name}.log")) for name in names}
        for seed in range(options.seed, options.seed + options.runs):
            local = options.lake == "local" or (options.lake == "both" and seed % 2 == 0)
            config = LakeConfig(dir=folder / f"lake{seed}", buckets=2) if local else s3_config(server)
            began = time.monotonic()
            play = Play(draw(seed), Lake.open(config), folder / f"seed{seed}", jobs)
            found = play.run()
            print(
                f"seed {seed} {'local' if local else 's3'}: {play.schedule.maintain} | steps "
                f"{dict(play.steps)}, files lost to {dict(play.lost)}, {time.monotonic() - began:.0f} s | "
                f"{'; '.join(found) or 'exact'}",
                flush=True,
            )
            if found:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
