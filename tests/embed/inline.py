"""The embed stage without Ray, step by step, so that a test can stop between any two of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlparse
from uuid import uuid4

import pyarrow as pa

from pipelines.embed.commit.committer import Committed, Committer
from pipelines.embed.commit.sweep import sweep
from pipelines.embed.plan.plan import Plan, Wanted
from pipelines.embed.plan.survey import pending_rows, rejected_chunks, survey
from pipelines.embed.work.encode import encode_unit
from pipelines.embed.work.read import read_unit
from pipelines.embed.work.wire import BatchEncoder, Finished, Job
from pipelines.embed.work.write import write_unit
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.filters import equals
from pipelines.lake.models import record_model


@dataclass
class InlineRun:
    """One run: what `pipelines.embed.run.embed` does between its plan and its report."""

    plan: Plan
    job: Job
    encoder: BatchEncoder
    tokenizer: Tokenizer
    committer: Committer

    @classmethod
    def start(cls, lake: Lake, encoder: Encoder, wanted: Wanted | None = None) -> "InlineRun":
        """Plans."""
        wanted = wanted or Wanted()
        run_id = uuid4().hex
        lake.ensure_tables()
        plan = survey(lake, encoder.key, wanted=wanted)
        sweep(lake, plan)
        record_model(lake.table("embeddings"), encoder.key, asdict(encoder.identity))
        job = Job(lake.config, encoder.conf, encoder.identity, run_id, 4096, where=wanted.where)
        return cls(plan, job, encoder, encoder.tokenizer, Committer(lake, plan, run_id))

    def work(self, tokens: int = 60, rows: int = 20, limit: int | None = None) -> list[Finished]:
        """Reads, encodes and writes every pending unit; commits none.

        Args:
            tokens: Of a unit: few, so that files are split and joined.
            rows: Most rows of a unit.
            limit: Most rows of all.
        """
        return [
            write_unit(
                self.job,
                encode_unit(self.job, self.encoder, read_unit(self.job, unit, self.tokenizer)),
            )
            for unit in self.plan.units(tokens, rows, limit)
        ]

    def commit(self, units: Sequence[Finished]) -> Committed:
        """Commits some of what `work` gave."""
        self.committer.commit(units)
        return self.committer.total


def embed_inline(lake: Lake, encoder: Encoder) -> Committed:
    """One undisturbed run."""
    run = InlineRun.start(lake, encoder)
    units = run.work()
    return run.commit(units) if units else Committed()


def vectors(lake: Lake, model: str) -> pa.Table:
    """The model's rows."""
    return lake.table("embeddings").scan(row_filter=equals("model", model)).to_arrow()


def check_accounts(lake: Lake, model: str) -> int:
    """Every live chunk has one row, one reject, or is pending; nothing is there twice. Gives the pending."""
    chunks = lake.table("chunks").scan(selected_fields=("chunk_id",)).to_arrow().column(0).to_pylist()
    embedded = Counter(vectors(lake, model).column("chunk_id").to_pylist())
    keys = lake.table("rejects").scan(selected_fields=("key",)).to_arrow().column(0).to_pylist()
    rejected = Counter(key.removeprefix(f"{model}/") for key in keys if key.startswith(f"{model}/"))
    assert max([*embedded.values(), *rejected.values()], default=1) == 1
    assert not set(embedded) & set(rejected)
    assert len(rejected_chunks(lake.table("rejects"), model)) == len(rejected)
    expected = set(chunks) - set(embedded) - set(rejected)
    pending = pending_rows(lake, model)
    assert pending == len(expected)
    assert survey(lake, model).settled_rows == len(chunks) - pending
    return pending


def data_files(lake: Lake, table: str) -> set[Path]:
    """Every Parquet file below a table of a local lake, live or orphan."""
    return set(Path(urlparse(lake.table(table).location()).path).rglob("*.parquet"))


def live_files(lake: Lake, table: str) -> set[Path]:
    """The live ones."""
    tasks = lake.table(table).scan().plan_files()
    return {Path(urlparse(task.file.file_path).path) for task in tasks}


def rewrite(lake: Lake, name: str) -> None:
    """Compacts a table: all its rows in new files, one a partition, in one commit."""
    table = lake.table(name)
    rows = table.scan().to_arrow()
    table.overwrite(rows)
