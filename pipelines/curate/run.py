"""The curate run: discover → read and judge → verdicts → chunk → write."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any
from uuid import uuid4

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate import write
from pipelines.curate.config import ColumnsConfig, CurateConfig
from pipelines.curate.discover import InputFile, discover, filesystem, split_files
from pipelines.curate.readers import columns_of
from pipelines.curate.records import RECORD_DDL
from pipelines.curate.spark_ops import CHUNK_DDL, chunker, split_reader, table_reader
from pipelines.curate.tasks import task_progress
from pipelines.curate.verdict import verdicts
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ConfigError, InputError
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.progress import Progress

TABLE_PREFIX = "iceberg:"


@dataclass(frozen=True)
class CurateReport:
    """What a run did.

    Attributes:
        given: Records read, files that could not be read among them.
        new: Of them, documents that the lake did not know.
        kept: Of the new, those that were chunked.
        duplicates: Of the new, those removed for a kept twin.
        rejects: Of the new, those that could not be used, by reason.
        chunks: Chunks written.
        seconds: Wall-clock time of the run.
    """

    run_id: str
    given: int
    new: int
    kept: int
    duplicates: int
    rejects: dict[str, int]
    chunks: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def curate(
    lake: Lake,
    inputs: Sequence[str],
    model: ModelConf,
    config: CurateConfig,
    spark_config: SparkConfig,
    progress: Progress,
) -> CurateReport:
    """Brings the documents of `inputs` into the lake: rejects, duplicates and chunks.

    Documents that the lake knows are left as they are: run twice, the second run writes nothing.

    Args:
        lake: Its tables are created where absent.
        inputs: Folders, files or `s3://` URIs, or Iceberg tables as `iceberg:namespace.table`.
        model: Whose tokenizer cuts the chunks, and whose limit they keep.
        config: Settings of the stage.
        spark_config: How Spark is run.
        progress: Is told each step.

    Raises:
        InputError: A path is missing, empty or unreadable, or lacks the columns.
        ModelError: The lake's chunks were made by another tokenizer.
        ConfigError: A chunk cannot be longer than the model takes.
    """
    started = monotonic()
    tokenizer = Tokenizer.load(model)
    _check_limits(model, config, tokenizer.overhead(model.prefixes["document"]))
    listed = [(location, _files(location, config, lake)) for location in inputs]
    lake.ensure_tables()
    lake.bind_tokenizer(tokenizer.fingerprint)
    with ExitStack() as stack:
        with progress.step("starting Spark", None, "seconds"):
            spark = stack.enter_context(spark_session(lake, spark_config))
        return _Run(spark, lake, model, config, progress).execute(listed, started)


@dataclass
class _Run:
    spark: SparkSession
    lake: Lake
    model: ModelConf
    config: CurateConfig
    progress: Progress

    def execute(self, listed: Sequence[tuple[str, list[InputFile]]], started: float) -> CurateReport:
        run_id = uuid4().hex[:12]
        self.spark.conf.set("spark.sql.iceberg.snapshot-property.embedlake.run-id", run_id)
        self.spark.conf.set("spark.sql.iceberg.snapshot-property.embedlake.stage", "curate")
        records = self._records(listed).persist(StorageLevel.DISK_ONLY)
        size = sum(file.size for _, files in listed for file in files)
        given = self._counted("reading and normalising", size or None, "bytes", records.count)
        ledger = self.spark.table(self.lake.spark_identifier("documents"))
        judged = verdicts(records, ledger, self.config.source_priority).persist(StorageLevel.DISK_ONLY)
        counts = self._counted("finding exact duplicates", given, "documents", lambda: _outcomes(judged))
        kept, duplicates = counts.pop(("kept", None), 0), counts.pop(("duplicate", None), 0)
        rejects = {str(reason): count for (_, reason), count in counts.items()}
        new = kept + duplicates + sum(rejects.values())
        chunks = 0
        if kept:
            made = self._chunks(records, judged)
            self._counted(
                "chunking and writing", kept, "documents",
                lambda: write.write_chunks(self.lake, made),
            )  # fmt: skip
            chunks = self._added("chunks", run_id)
        if new:
            self._counted(
                "writing the ledger", new, "documents", lambda: self._write_rest(judged, duplicates)
            )
        write.forget_file_rejects(self.spark, self.lake, self._healed(records, listed))
        judged.unpersist()
        records.unpersist()
        return CurateReport(run_id, given, new, kept, duplicates, rejects, chunks, monotonic() - started)

    def _records(self, listed: Sequence[tuple[str, list[InputFile]]]) -> DataFrame:
        frames = []
        for location, files in listed:
            columns = self.config.columns
            if location.startswith(TABLE_PREFIX):
                frames.append(self._table_records(location))
                continue
            groups = split_files(files, self.config.split_bytes)
            numbers = self.spark.sparkContext.parallelize([(at,) for at in range(len(groups))], len(groups))
            read = split_reader(groups, location, columns, self.lake.config)
            frames.append(self.spark.createDataFrame(numbers, "group int").mapInArrow(read, RECORD_DDL))
        records = frames[0]
        for frame in frames[1:]:
            records = records.unionByName(frame)
        return records

    def _table_records(self, location: str) -> DataFrame:
        name = location.removeprefix(TABLE_PREFIX)
        parts = name.split(".")
        if len(parts) == 2:
            parts = [self.lake.config.name, *parts]
        quoted = ".".join(f"`{part}`" for part in parts)
        if not self.spark.catalog.tableExists(quoted):
            raise InputError(f"there is no table {name}", "Name it as iceberg:namespace.table")
        table = self.spark.table(quoted)
        check_columns(table.columns, self.config.columns, name)
        apart = {self.config.columns.id, self.config.columns.text, self.config.columns.source}
        kept = self.config.columns.metadata
        wanted = [column for column in table.columns if kept is None or column in kept or column in apart]
        source = self.config.source or parts[-1]
        return table.select(*wanted, "_file", "_pos").mapInArrow(
            table_reader(self.config.columns, source), RECORD_DDL
        )

    def _chunks(self, records: DataFrame, judged: DataFrame) -> DataFrame:
        kept = write.kept_of(judged).select("file", "position")
        documents = records.join(kept, ["file", "position"], "left_semi")
        chunk = chunker(self.model, self.config.chunk)
        return documents.select("doc_id", "source", "text", "metadata").mapInArrow(chunk, CHUNK_DDL)

    def _healed(self, records: DataFrame, listed: Sequence[tuple[str, list[InputFile]]]) -> list[str]:
        """Files of this run that were rejects of an earlier one and are not of this."""
        rejects = self.spark.table(self.lake.spark_identifier("rejects")).where("stage = 'read'")
        before = {row["key"] for row in rejects.select("key").collect()}
        if not before:
            return []
        now = {row["file"] for row in records.where("stage = 'read'").select("file").collect()}
        return [file.uri for _, files in listed for file in files if file.uri in before - now]

    def _write_rest(self, judged: DataFrame, duplicates: int) -> None:
        if duplicates:
            write.write_duplicates(self.lake, judged)
        write.write_rejects(self.lake, judged)
        write.write_ledger(self.lake, judged)

    def _added(self, table: str, run_id: str) -> int:
        snapshot = self.lake.table(table).current_snapshot()
        summary = snapshot.summary if snapshot else None
        if summary is None or summary.additional_properties.get("embedlake.run-id") != run_id:
            return 0
        return int(summary.additional_properties.get("added-records", 0))

    def _counted(self, label: str, total: int | None, unit: str, action: Callable[[], Any]) -> Any:
        with self.progress.step(label, total, unit) as step, task_progress(self.spark, step, total):
            return action()


def _outcomes(judged: DataFrame) -> dict[tuple[str, str | None], int]:
    rows = judged.groupBy("outcome", "reason").agg(F.count("*").alias("n")).collect()
    return {(row["outcome"], row["reason"]): row["n"] for row in rows}


def _files(location: str, config: CurateConfig, lake: Lake) -> list[InputFile]:
    if location.startswith(TABLE_PREFIX):
        return []
    files = discover(location, config.format, config.source, lake.config)
    fs, _ = filesystem(location, lake.config)
    for file in files[:20]:
        names = None if file.format == "text" else columns_of(fs, file)
        if names:  # the first file that can be read tells; a later one that differs is a reject
            check_columns(names, config.columns, file.uri)
            break
    return files


def check_columns(names: Sequence[str], columns: ColumnsConfig, where: str) -> None:
    """Refuses an input that lacks the id or text column.

    Raises:
        InputError: Names the column, the columns there are, and the option.
    """
    for option, needed in (("--id-column", columns.id), ("--text-column", columns.text)):
        if needed not in names:
            raise InputError(
                f"{where} has no column '{needed}' (it has: {', '.join(map(str, names))})",
                f"Name the right one by {option}",
            )


def _check_limits(model: ModelConf, config: CurateConfig, overhead: int) -> None:
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
