"""The inputs of a run as one DataFrame of judged records."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from pipelines.curate.config import ColumnsConfig, CurateConfig
from pipelines.curate.read.arrival import Moment
from pipelines.curate.read.discover import InputFile, Listing, discover, filesystem, split_files
from pipelines.curate.read.readers import columns_of
from pipelines.curate.records import RECORD_DDL, Origin, Rules
from pipelines.curate.rules.boilerplate import SourceLines
from pipelines.curate.rules.line_counts import TEXT_DDL, text_lister
from pipelines.curate.spark_ops import Make, judging, split_reader, table_reader
from pipelines.dedup.signing import signer
from pipelines.dedup.spark_sql import empty_frame
from pipelines.errors import EmptyInputError, InputError
from pipelines.lake import Lake

TABLE_PREFIX = "iceberg:"
_LEAST_TASK_BYTES = 1 << 20


@dataclass(frozen=True)
class Input:
    """One input of a run.

    Attributes:
        location: As it was given.
        files: What there is to read; empty for a table.
        source: Of documents that name none.
        left_out: Which of its files are not read, in words.
    """

    location: str
    files: list[InputFile]
    source: str
    left_out: str = ""


def list_inputs(
    locations: Sequence[str],
    config: CurateConfig,
    lake: Lake,
    allow_empty: bool = False,
    only: frozenset[str] | None = None,
) -> list[Input]:
    """The inputs, listed and looked into; a file that two of them hold is read once.

    Args:
        locations: Folders, files, `s3://` URIs, or tables as `iceberg:namespace.table`.
        config: Of the stage.
        lake: For the object store's settings.
        allow_empty: Whether an input may hold nothing to read.
        only: URIs of the files to read, of all that there are; None reads all.

    Raises:
        InputError: One is missing, holds nothing to read, or lacks the columns.
    """
    inputs: list[Input] = []
    seen: set[str] = set()
    for location in dict.fromkeys(locations):
        if location.startswith(TABLE_PREFIX):
            inputs.append(Input(location, [], config.source or location.rpartition(".")[2]))
            continue
        try:
            files = discover(location, config.format, config.source, lake.config)
        except EmptyInputError:
            if not allow_empty:
                raise
            files = Listing((), Counter())
        fresh = [file for file in files if file.path not in seen and (only is None or file.uri in only)]
        seen.update(file.path for file in fresh)
        _check_files(location, fresh, config.columns, lake)
        name = location.rstrip("/").rpartition("/")[2].split(".")[0] or "default"
        own = config.source or (fresh[0].source if fresh else name)
        inputs.append(Input(location, fresh, own, files.left_out_line()))
    return inputs


def read_inputs(
    spark: SparkSession,
    inputs: Sequence[Input],
    config: CurateConfig,
    lake: Lake,
    arrival: Moment,
    lines: SourceLines | None = None,
) -> DataFrame:
    """The judged records of all inputs, with the columns of `RECORD_SCHEMA`.

    Args:
        spark: The session.
        inputs: From `list_inputs`.
        config: Of the stage.
        lake: For the object store's settings.
        arrival: Of records that carry none.
        lines: That are dropped from the texts.

    Raises:
        InputError: A table is missing or lacks the columns.
    """
    make = judging(_rules(config, lines), signer(config.near))
    return _Reading(spark, config, lake, arrival, make, RECORD_DDL).of(inputs)


def read_texts(
    spark: SparkSession,
    inputs: Sequence[Input],
    config: CurateConfig,
    lake: Lake,
    arrival: Moment,
    learnt: Set[str],
) -> DataFrame:
    """The readable texts of all inputs but those of the sources `learnt`, with the columns of `TEXT_SCHEMA`.

    Raises:
        InputError: A table is missing or lacks the columns.
    """
    make = text_lister(learnt, _rules(config))
    return _Reading(spark, config, lake, arrival, make, TEXT_DDL).of(inputs)


def sources_of(one: Input, columns: ColumnsConfig) -> Set[str] | None:
    """The sources of the input's documents, where that is known without reading them; None where it is not.

    It is where no record can name its own: the column of source is null in the settings; or it has its
    default name, there is no folder of that name, and all files are texts or WARC.
    """
    is_table = one.location.startswith(TABLE_PREFIX)
    if columns.source is not None:
        if is_table or "source" in columns.model_fields_set:
            return None
        if any(
            file.format not in ("text", "warc") or columns.source in dict(file.partition)
            for file in one.files
        ):
            return None
    return {one.source} if is_table else {file.source for file in one.files}


@dataclass(frozen=True)
class _Reading:
    """How inputs are read: what `make` makes of their records, as rows of `ddl`."""

    spark: SparkSession
    config: CurateConfig
    lake: Lake
    arrival: Moment
    make: Make
    ddl: str

    def of(self, inputs: Sequence[Input]) -> DataFrame:
        rows = empty_frame(self.spark, self.ddl)
        for one in inputs:
            if one.location.startswith(TABLE_PREFIX):
                rows = rows.unionByName(self._table(one))
            elif one.files:
                rows = rows.unionByName(self._files(one))
        return rows

    def _files(self, one: Input) -> DataFrame:
        cores = self.spark.sparkContext.defaultParallelism
        groups = split_files(one.files, _task_bytes(one.files, self.config.split_bytes, cores))
        numbers = self.spark.range(0, len(groups), 1, len(groups)).withColumnRenamed("id", "group")
        read = split_reader(groups, self._origin(one), self.config.columns, self.lake.config, self.make)
        return numbers.mapInArrow(read, self.ddl)

    def _table(self, one: Input) -> DataFrame:
        name = one.location.removeprefix(TABLE_PREFIX)
        parts = name.split(".")
        if len(parts) == 2:
            parts = [self.lake.config.name, *parts]
        quoted = ".".join(f"`{part}`" for part in parts)
        if not self.spark.catalog.tableExists(quoted):
            raise InputError(f"there is no table {name}", "Name it as iceberg:namespace.table")
        table = self.spark.table(quoted)
        columns = self.config.columns
        check_columns(table.columns, columns, name)
        apart = {columns.id, columns.text, columns.source, columns.arrival}
        kept = columns.metadata
        wanted = [column for column in table.columns if kept is None or column in kept or column in apart]
        read = table_reader(columns, self._origin(one), self.make)
        return table.select(*wanted, "_file", "_pos").mapInArrow(read, self.ddl)

    def _origin(self, one: Input) -> Origin:
        return Origin(one.location, "", one.source, self.arrival)


def _task_bytes(files: Sequence[InputFile], most: int, cores: int) -> int:
    """Bytes of a task, so that a small input is read by all cores too."""
    # A tenth more, so that files of one size are not cut for being a little above the mean.
    share = sum(file.size for file in files) * 11 // (20 * cores)
    return min(most, max(share, _LEAST_TASK_BYTES))


def _rules(config: CurateConfig, lines: SourceLines | None = None) -> Rules:
    return Rules(config.columns.arrival, config.quality, config.language, lines)


def _check_files(location: str, files: Sequence[InputFile], columns: ColumnsConfig, lake: Lake) -> None:
    fs, _ = filesystem(location, lake.config)
    for file in files[:20]:
        names = columns_of(fs, file)
        if names:  # the first file that can be read tells; a later one that differs is a reject
            check_columns(names, columns, file.uri)
            break


def check_columns(names: Sequence[str], columns: ColumnsConfig, where: str) -> None:
    """Refuses an input that lacks the id or text column, or another that was asked for by name.

    Raises:
        InputError: Names the column, the columns there are, and the option.
    """
    options = [("--id-column", columns.id), ("--text-column", columns.text)]
    if columns.source and "source" in columns.model_fields_set:
        options.append(("--source-column", columns.source))
    if columns.arrival and "arrival" in columns.model_fields_set:
        options.append(("--arrival-column", columns.arrival))
    options += [("curate.columns.metadata", name) for name in columns.metadata or ()]
    for option, needed in options:
        if needed not in names:
            raise InputError(
                f"{where} has no column '{needed}' (it has: {', '.join(map(str, names))})",
                f"Name the right one by {option}",
            )
