"""The curate run: read → compare with the ledger → judge → write the ledger → let the other tables follow."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic
from uuid import uuid4

from pyspark import StorageLevel
from pyspark.sql import DataFrame

from pipelines.curate.config import CurateConfig
from pipelines.curate.context import RunContext
from pipelines.curate.ledger.enter import Entry
from pipelines.curate.ledger.follow import Follower
from pipelines.curate.ledger.settings import bind_settings, check_line_settings
from pipelines.curate.read.inputs import Input, list_inputs, read_inputs
from pipelines.curate.removals import NOTHING_REMOVED, Removals, deleted_ids
from pipelines.curate.report import Counts, CurateReport
from pipelines.curate.rules.learn import Learner
from pipelines.curate.spark_ops import chunker
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ConfigError, InputError
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session, start_workers
from pipelines.progress import Progress


def curate(
    lake: Lake,
    inputs: Sequence[str],
    model: ModelConf,
    config: CurateConfig,
    spark_config: SparkConfig,
    progress: Progress,
    removals: Removals = NOTHING_REMOVED,
    only: frozenset[str] | None = None,
) -> CurateReport:
    """Brings the documents of `inputs` into the lake: duplicates, rejects and chunks.

    What the lake knows already is left as it is: run twice, the second run writes nothing. A document whose
    text, source or metadata changed replaces the old one. Killed anywhere and run again, the tables are as
    if it had not been killed.

    Args:
        lake: Its tables are created where absent.
        inputs: Folders, files or `s3://` URIs, or Iceberg tables as `iceberg:namespace.table`.
        model: Whose tokenizer cuts the chunks, and whose limit they keep.
        config: Settings of the stage.
        spark_config: How Spark is run.
        progress: Is told each step.
        removals: What is to go.
        only: URIs of the files to read of the inputs; None reads all.

    Raises:
        InputError: A path is missing, empty or unreadable, or lacks the columns.
        ModelError: The lake's chunks were made by another tokenizer.
        ConfigError: A chunk cannot be longer than the model takes; or the lake was made with other settings.
    """
    started = monotonic()
    if not inputs and (removals.full or not removals.deletes):
        raise InputError("there is nothing to curate", "Name a folder, a file, a table, or --deletes FILE")
    tokenizer = Tokenizer.load(model)
    check_limits(model, config, tokenizer.overhead(model.prefixes["document"]))
    listed = list_inputs(inputs, config, lake, removals.allow_empty, only)
    deletes = deleted_ids(removals.deletes, config, lake)
    lake.ensure_tables()
    lake.bind_tokenizer(tokenizer.fingerprint)
    bind_settings(lake, config)
    if config.boilerplate is not None:
        check_line_settings(lake, config.boilerplate)
    with ExitStack() as stack:
        with progress.step("starting Spark", None, "seconds"):
            spark = stack.enter_context(spark_session(lake, spark_config))
            start_workers(spark)
        run = Run(spark, lake, model, config, progress, uuid4().hex[:12])
        run.follow("finishing an earlier run: ")
        given, counts = run.enter(listed, deletes, removals)
        chunks = run.follow()
        counted = {name: value for name, value in asdict(counts).items() if name != "only_adds"}
        return CurateReport(
            run_id=run.run_id,
            given=given,
            new=counts.new,
            chunks=chunks,
            left_out={one.location: one.left_out for one in listed if one.left_out},
            seconds=monotonic() - started,
            **counted,
        )


class Run(RunContext):
    """One run on an open session."""

    def enter(
        self, listed: Sequence[Input], deletes: Sequence[str], removals: Removals
    ) -> tuple[int, Counts]:
        """Brings the inputs into the ledger; how many records they held, and what became of them."""
        arrival = datetime.now(UTC)
        size = sum(file.size for one in listed for file in one.files) or None
        learner = Learner(self.spark, self.lake, self.config, self.run_id)
        lines = learner.learn(listed, arrival, lambda label, step: self.told(label, size, "bytes", step))
        records = read_inputs(self.spark, listed, self.config, self.lake, arrival, lines)
        records = records.persist(StorageLevel.DISK_ONLY)
        given = self.told("reading and normalising", size, "bytes", records.count)
        scope = self._scope(records, listed, removals)
        entry = Entry(self, records, listed, deletes, scope, max(given, len(deletes)))
        while (counts := entry.attempt()) is None:
            pass  # another run has changed the ledger meanwhile: judge again by what it is now
        records.unpersist()
        return given, counts

    def follow(self, prefix: str = "") -> int:
        """Lets the other tables follow the ledger; how many chunks were written."""
        before = self.lake.table("chunks").current_snapshot()
        follower = Follower(self.spark, self.lake, chunker(self.model, self.config.chunk), self.run_id)
        follower.follow(lambda label, step: self.told(prefix + label, None, "documents", step))
        now = self.lake.table("chunks").current_snapshot()
        if now is None or now == before or now.summary is None:
            return 0
        return int(now.summary.additional_properties.get("added-records", 0))

    def _scope(self, records: DataFrame, listed: Sequence[Input], removals: Removals) -> list[str] | None:
        """The sources of which the inputs are all there is; None where they are not."""
        if not removals.full:
            return None
        faults = [row["file"] for row in records.where("stage = 'read'").select("file").take(3)]
        if faults:
            raise InputError(
                f"--full declares the input complete, but {faults[0]} could not be read",
                "Mend or remove the file: what it holds would be deleted as absent",
            )
        good = records.where("reason is null")
        sources = [row["source"] for row in good.select("source").distinct().collect()]
        if not sources and not removals.allow_empty:
            raise InputError(
                "--full declares the input complete, but it holds no document",
                "Give --allow-empty if all documents of its source are to be deleted",
            )
        return sources or [one.source for one in listed]


def check_limits(model: ModelConf, config: CurateConfig, overhead: int) -> None:
    """Refuses chunks that the model cannot take.

    Raises:
        ConfigError: A chunk is to be longer than the model takes, or leaves no room for text.
    """
    limit = config.chunk.max_tokens
    if limit > model.max_tokens:
        raise ConfigError(
            f"curate.chunk.max_tokens is {limit}, but model {model.name} takes {model.max_tokens} tokens",
            f"Set curate.chunk.max_tokens to {model.max_tokens} or less",
        )
    if limit - overhead < 4:
        raise ConfigError(
            f"curate.chunk.max_tokens is {limit}, of which prefix and special tokens take {overhead}",
            f"Set curate.chunk.max_tokens to {overhead + 4} or more",
        )
