"""A folder with a lake, the weak texts in it, the evaluation sets beside it; and commands run there."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.lake import Lake, LakeConfig
from tests.benchmarks.debian import cache_folder
from tests.benchmarks.small.debtags import write_debtags
from tests.benchmarks.small.texts import weak_pairs

TABLE = "weak_texts"
CRANFIELD = "cranfield"
_SHARED = "EMBEDLAKE_SHARED"


class Place:
    """Where a small training run happens; what is there is used again.

    Attributes:
        folder: Of everything.
        sets: Files of the evaluation sets, by name: corpus, queries, qrels.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder() / "small").resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sets: dict[str, dict[str, Path]] = {}

    def prepare(self) -> None:
        """Fetches the texts and the evaluation sets, and writes what the table of weak texts lacks.

        Raises:
            RuntimeError: apt is not there, or has not one of the packages.
        """
        self.sets["debtags"] = write_debtags(self.folder / "debtags")
        shared = Path(os.environ.get(_SHARED, Path(__file__).parents[4] / "shared"))
        cranfield = shared / "data" / CRANFIELD
        if cranfield.is_dir():
            names = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels.tsv"}
            self.sets[CRANFIELD] = {key: cranfield / name for key, name in names.items()}
        queries = [text for files in self.sets.values() for text in _texts(files["queries"])]
        (self.folder / "evaluation-queries.txt").write_text("\n".join(queries) + "\n", encoding="utf-8")
        lake = Lake.open(LakeConfig(dir=self.folder / "lake"))
        lake.ensure_namespace()
        rows = pa.Table.from_pylist([asdict(pair) for pair in weak_pairs()])
        table = lake.catalog.create_table_if_not_exists(lake.identifier(TABLE), rows.schema)
        written = table.scan(selected_fields=("source",)).to_arrow().column("source").unique()
        if (new := rows.filter(pc.invert(pc.is_in(rows.column("source"), value_set=written)))).num_rows:
            table.append(new)

    def embedlake(self, *arguments: str) -> str:
        """Runs the command in the folder; its progress goes to the terminal, its output is returned.

        Raises:
            RuntimeError: It failed.
        """
        command = [sys.executable, "-m", "jobs.cli", "--lake", str(self.folder / "lake"), *arguments]
        root = str(Path(__file__).parents[3])
        environment = {**os.environ, "PYTHONPATH": root}
        environment.pop(_SHARED, None)  # of the tests; to the command an unknown setting
        done = subprocess.run(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"embedlake {' '.join(arguments)} failed: {done.stdout[-2000:]}")
        return done.stdout

    def judged(self, model: str, dims: tuple[int, ...]) -> dict[str, dict[int, float]]:
        """nDCG@10 at each dimension, float32, by evaluation set; measured once for a model."""
        found = {}
        for name, files in self.sets.items():
            out = self.report(model, name)
            if not out.exists():
                arguments = [f"--{key}={file}" for key, file in files.items()]
                listed = ",".join(map(str, dims))
                options = ("--model", model, "--dims", listed, "--types", "float32", "--json", str(out))
                self.embedlake("evaluate", "retrieval", *arguments, *options)
            found[name] = ndcg(json.loads(out.read_text()))
        return found

    def report(self, model: str, name: str) -> Path:
        """The file for an evaluation's figures: another one when a model's weights have changed."""
        folder = self.folder / "judged"
        folder.mkdir(exist_ok=True)
        return folder / f"{describe_model(load_model_conf(model)).key}-{name}.json"


def model_name(model: str) -> str:
    """Short name of a model, given by name or by the path of its model.yaml."""
    return Path(model).parent.name if model.endswith(".yaml") else model


def ndcg(report: dict[str, Any]) -> dict[int, float]:
    """nDCG@10 by dimension, of a report of `embedlake evaluate retrieval`."""
    return {row["dim"]: row["ndcg@10"] for row in report["rows"]}


def _texts(queries: Path) -> list[str]:
    with queries.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]
