"""Learns which lines each source repeats, once, and keeps them in the table `boilerplate`.

All that a run learns is published as one change, and only if nobody has changed the table meanwhile: else
the sources that the other run has learnt are left out, and the rest is tried again. So no source is learnt
twice, and what the table holds after that is what counts. Fault protocol:

- killed before it is published: nothing is learnt, and the next run learns from what it brings itself;
- killed after it, before the ledger: the next run drops what was learnt, as this one would have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.config import CurateConfig
from pipelines.curate.ledger.settings import bind_line_settings
from pipelines.curate.read.arrival import Moment
from pipelines.curate.read.inputs import Input, read_texts, sources_of
from pipelines.curate.rules.boilerplate import BoilerplateConfig, SourceLines, documents_needed
from pipelines.curate.rules.line_counts import COUNT_DDL, line_counter
from pipelines.dedup.spark_sql import cut, not_among
from pipelines.lake import Lake
from pipelines.lake.branch import branch
from pipelines.lake.faults import explained
from pipelines.lake.tables import BOILERPLATE

_COLUMNS = tuple(field.name for field in BOILERPLATE.schema.fields)
# Is given a step's name and the step, does it, and tells of it.
Told = Callable[[str, Callable[[], None]], Any]


def read_lines(lake: Lake, config: BoilerplateConfig) -> SourceLines:
    """What has been learnt, as the lake has it now.

    A source repeats at most as many lines as its mean document has, divided by `min_share`: some
    thousands, so that every process may hold them.
    """
    with explained(lake.config):
        rows = lake.table("boilerplate").scan(selected_fields=("source", "key")).to_arrow()
    drop: dict[str, set[int]] = {}
    for source, key in zip(rows["source"].to_pylist(), rows["key"].to_pylist(), strict=True):
        drop.setdefault(source, set()).update(() if key is None else (key,))
    return SourceLines(config.min_chars, drop)


@dataclass(frozen=True)
class Learner:
    """Learns from the inputs of one run.

    Attributes:
        spark: The session.
        lake: The lake.
        config: Of the stage.
        run_id: Of the run, for its branch.
    """

    spark: SparkSession
    lake: Lake
    config: CurateConfig
    run_id: str

    def learn(self, listed: Sequence[Input], arrival: Moment, told: Told) -> SourceLines | None:
        """The lines to drop, after those of the inputs have been learnt; None where that is off.

        Reads the inputs once more, unless all sources that they can hold are learnt. That is known before
        only where no record can name its own (`sources_of`); else each run reads its input twice, the first
        time often to find that there is nothing to learn: then without normalising and all that comes after
        it, but with all the reading. Where an input is one source, `columns.source: null` saves that.

        Raises:
            ConfigError: Another run has learnt lines with other settings meanwhile.
            InputError: A table is missing or lacks the columns.
        """
        config = self.config.boilerplate
        if config is None:
            return None
        lines = read_lines(self.lake, config)
        told_before = [sources_of(one, self.config.columns) for one in listed]
        if all(sources is not None and sources <= lines.drop.keys() for sources in told_before):
            return lines

        def step() -> None:
            texts = read_texts(self.spark, listed, self.config, self.lake, arrival, frozenset(lines.drop))
            rows = repeated(texts, config)
            if rows is not None:
                bind_line_settings(self.lake, config)
                self.publish(rows)

        told("learning the lines that sources repeat", step)
        return read_lines(self.lake, config)

    def publish(self, rows: DataFrame) -> None:
        """Brings rows, as `repeated` gives them, into the table; none of a source that is there."""
        while True:
            with branch(self.spark, self.lake, "boilerplate", self.run_id) as made:
                there = self.spark.table(made.identifier).select("source").distinct()
                new = not_among(rows, there, "source").coalesce(1)
                if new.isEmpty():
                    return
                new.writeTo(made.identifier).append()
                if made.publish():
                    return


def repeated(texts: DataFrame, config: BoilerplateConfig) -> DataFrame | None:
    """Rows of the table `boilerplate` for the sources with documents enough; None where there is none.

    Args:
        texts: As `TEXT_SCHEMA`.
        config: Which lines are boilerplate.
    """
    # Of a text that comes in many copies each line stands in many documents: all would be dropped, and no
    # copy be left. So a text is counted once, at the price of moving all of them to where their copies are.
    distinct = texts.dropDuplicates(["source", "text_hash"]).select("source", "text")
    counts = distinct.mapInArrow(line_counter(config.min_chars), COUNT_DDL)
    counts = counts.groupBy("source", "key").agg(
        F.sum("documents").alias("documents"), F.first("line").alias("line")
    )
    # No line can do with fewer documents, and no source: most rows go before they are kept anywhere.
    often = cut(counts.where(F.col("documents") >= config.min_documents))
    totals = {row["source"]: row["documents"] for row in often.where("key is null").collect()}
    if not totals:
        return None
    least = [documents_needed(count, config) for count in totals.values()]
    needed = often.sparkSession.createDataFrame(pa.table({"source": list(totals), "needed": least}))
    rows = often.join(F.broadcast(needed), "source")
    return rows.where("key is null or documents >= needed").select(*_COLUMNS)
