"""Publishes embeddings to a serving table: what is new, changed or gone since the last time, in one commit.

Fault protocol: data files and files of deletes are orphans until the commit, which sets the snapshot, its
summary and the table's property at once. Killed before it, the table is as it was, and the next run starts
from what was published last; killed after it, the next run finds nothing new. Of two runs at once the second
to commit finds the table changed and starts again. A release is a tag, set after the commit: killed between
the two, the same command sets it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TypeVar
from uuid import uuid4

from pyiceberg.table import Table

from pipelines.encoder.quantise import bytes_per_vector
from pipelines.encoder.rotation import Moment, Rotation, mixing
from pipelines.errors import CommitError, ConfigError, ModelError
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.counts import live_rows
from pipelines.lake.delta import Delta, commit_delta
from pipelines.lake.faults import explained
from pipelines.lake.models import choose_key, recorded_dimension
from pipelines.lake.rotations import RotationRecord, record_rotation, recorded_rotation
from pipelines.lake.serving import Published, published, published_at, releases
from pipelines.lake.tables import PUBLISHED_PROPERTY, STAGE_PROPERTY
from pipelines.progress import Progress, Silent
from pipelines.publish.changes import Changes, Sources, all_rows, bucket_count, changes_since, is_aligned
from pipelines.publish.config import PublishConfig
from pipelines.publish.layout import serving_spec, taken_columns
from pipelines.publish.release import tag_release
from pipelines.publish.report import Report, Request
from pipelines.publish.spread import joined, spread
from pipelines.publish.task import Job, Result, Task, do_task, second_moment

T = TypeVar("T")
_ATTEMPTS = 20
_ROW_BYTES = 100  # of keys and small columns
_TEXT_BYTES = 1200  # of a chunk's text


def publish(
    lake: Lake,
    config: PublishConfig,
    spark: SparkConfig,
    request: Request | None = None,
    progress: Progress | None = None,
) -> Report:
    """Brings the serving table up to the embeddings, and tags it where a release is asked for.

    Args:
        lake: With embeddings.
        config: What the table holds.
        spark: How Spark is run, where there is enough to do.
        request: See there.
        progress: Told of the steps.

    Raises:
        ModelError: No embeddings by the model, or several that fit.
        ConfigError: The settings contradict the embeddings, or the table that is there.
        CommitError: Others kept changing the table.
    """
    with explained(lake.config):
        return _Publication(lake, config, spark, request or Request(), progress or Silent()).run()


class _Publication:
    def __init__(
        self, lake: Lake, config: PublishConfig, spark: SparkConfig, request: Request, progress: Progress
    ) -> None:
        self.started = monotonic()
        self.lake, self.config, self.spark = lake, config, spark
        self.request, self.progress = request, progress
        properties = lake.table("embeddings").properties
        self.model = choose_key(properties, request.model)
        self.dimension = recorded_dimension(properties, self.model)
        self.dim = config.dim or self.dimension
        self.name = config.table_name(self.model.partition("@")[0], self.dim)
        self.taken = taken_columns(config.columns)
        self._check()

    def _check(self) -> None:
        if self.dim > self.dimension:
            raise ConfigError(
                f"publish.dim: '{self.model}' gives {self.dimension} dimensions, {self.dim} are wanted",
                f"Use {self.dimension} or fewer",
            )
        bytes_per_vector(self.config.type, self.dim)
        conf = self.request.conf
        if conf and conf.name == self.model.partition("@")[0] and self.dim not in conf.dimensions:
            trained = ", ".join(map(str, conf.dimensions))
            self.progress.say(
                f"'{conf.name}' was not made for slices of {self.dim} dimensions, but of {trained}: "
                "'embedlake evaluate' measures what they cost"
            )

    def run(self) -> Report:
        table = self._table()
        release = self.request.release
        if release and release in releases(table):
            self.progress.say(f"'{self.name}' has the release '{release}' already: nothing was published")
            state = published_at(table, releases(table)[release])
            return self._report(table, state, "nothing")
        for _ in range(_ATTEMPTS):
            table.refresh()
            report = self._once(table)
            if report is not None:
                if release:
                    tag_release(table, release, report.run_id)
                return report
            self.progress.say(f"'{self.name}' was changed by another job meanwhile: looking again")
        raise CommitError(f"'{self.name}' was changed by others {_ATTEMPTS} times in a row", "Run again")

    def _table(self) -> Table:
        """The serving table, created where it is absent."""
        spec = serving_spec(self.name, self.config, self.dim)
        if not self.lake.exists(self.name):
            self.lake.create(spec)
        self.lake.ensure_tables()
        table = self.lake.table(self.name)
        wanted = {(field.name, str(field.field_type)) for field in spec.schema.fields}
        there = {(field.name, str(field.field_type)) for field in table.schema().fields}
        parts = {field.name for field in spec.partition_spec(self.lake.config.buckets).fields}
        if {name for name, _ in wanted ^ there} or parts != {field.name for field in table.spec().fields}:
            raise ConfigError(
                f"the table '{self.name}' has other columns or partitions than the settings ask for",
                "Name another table (--table NAME), or drop this one",
            )
        return table

    def _once(self, table: Table) -> Report | None:
        """Publishes from the tables as they are now; None where another commit came first."""
        last = published(table)
        embeddings = self.lake.table("embeddings")
        chunks = self.lake.table("chunks") if self.taken else None
        state = Published(
            run_id=uuid4().hex[:12],
            model=self.model,
            dim=self.dim,
            type=self.config.type,
            columns=self.config.columns,
            rotated=self.config.rotate,
            embeddings=embeddings.metadata.current_snapshot_id,
            chunks=chunks.metadata.current_snapshot_id if chunks else None,
        )
        sources = Sources(embeddings, chunks, table)
        job = Job(
            config=self.lake.config,
            embeddings=embeddings.metadata_location,
            chunks=chunks.metadata_location if chunks else "",
            serving=table.metadata_location,
            state=state,
            dimension=self.dimension,
            taken=self.taken,
            rotation=None,
            sort_by=self.config.sort_by,
            file_rows=self._file_rows(),
            buckets=bucket_count(embeddings),
            aligned=is_aligned(table, embeddings),
        )
        if last is None or self._is_other(last):
            return self._full(table, sources, job, last)
        changes = changes_since(sources, last, job.file_rows)
        if not changes.tasks:
            return self._nothing(table, last, state)
        record = recorded_rotation(self.lake, last)
        result = self._do(replace(job, rotation=record.rotation if record else None), changes)
        if record is not None and result.moment is not None:
            record = RotationRecord(record.rotation, record.moment.plus(result.moment))
            drift = record.rotation.drift(record.moment, [self.dim])
            if drift > self.config.refit_above:
                self.progress.say(
                    f"a new rotation would hold {drift:.1%} more of the vectors' energy: fitting it, and "
                    "publishing every row again"
                )
                return self._full(table, sources, job, last)
        if not result.files and not result.dead:
            return self._nothing(table, last, state)
        return self._commit(table, job, Delta(result.files, result.dead), result, record)

    def _is_other(self, last: Published) -> bool:
        """Whether every row must be published again."""
        was = (last.model, last.dim, last.type, last.columns, last.rotated)
        wanted = (self.model, self.dim, self.config.type, self.config.columns, self.config.rotate)
        return was != wanted or self.request.rebuild or (self.request.refit and self.config.rotate)

    def _full(self, table: Table, sources: Sources, job: Job, last: Published | None) -> Report | None:
        changes = all_rows(sources, self.model, job.file_rows)
        if not changes.tasks:
            raise ModelError(f"the lake has no embeddings by '{self.model}' yet", "Run 'embedlake embed'")
        record = None
        if self.config.rotate:
            record = self._fitted(job, changes)
            job = replace(job, rotation=record.rotation)
        result = self._do(job, changes)
        while True:
            report = self._commit(table, job, Delta(result.files, (), True), result, record)
            # Whatever another tool made of the table meanwhile goes; another publication does not.
            if report is not None or published(table) != last:
                return report

    def _fitted(self, job: Job, changes: Changes) -> RotationRecord:
        fit = partial(second_moment, job)
        moment = Moment.none(self.dimension)
        for part in self._spread("fitting the rotation", fit, changes):
            moment = moment.plus(part)
        rotation = Rotation.fit(moment)
        if self.config.type == "binary":
            rotation = rotation.then(mixing(self.dimension, self.dim))
        return RotationRecord(rotation, moment)

    def _do(self, job: Job, changes: Changes) -> Result:
        return joined(self._spread("publishing", partial(do_task, job), changes))

    def _spread(self, label: str, work: Callable[[Task], T], changes: Changes) -> list[T]:
        rows = sum(task.rows for task in changes.tasks)
        with self.progress.step(label, rows, "rows") as step:
            return spread(self.lake, self.spark, work, changes.tasks, self.config.inline_rows, step)

    def _commit(
        self, table: Table, job: Job, delta: Delta, result: Result, record: RotationRecord | None
    ) -> Report | None:
        """Commits what the tasks made; None where another commit came first."""
        state = job.state
        if record is not None:
            record_rotation(self.lake, self.name, state, record)
        summary = {PUBLISHED_PROPERTY: state.to_json(), STAGE_PROPERTY: "publish"}
        properties = {PUBLISHED_PROPERTY: state.to_json()}
        if not commit_delta(table, delta, state.run_id, summary, properties):
            return None
        report = self._report(table, state, "full" if delta.replaces else "incremental", record)
        return replace(
            report,
            new=result.new,
            changed=result.changed,
            gone=result.gone,
            without_chunk=result.without_chunk,
            files=len(result.files),
            refitted=record is not None and delta.replaces,
        )

    def _nothing(self, table: Table, last: Published, state: Published) -> Report:
        """Remembers up to where there was nothing, so that the next run need not look there again."""
        moved = replace(last, embeddings=state.embeddings, chunks=state.chunks)
        if moved != last:
            # Of a publication that came meanwhile this changes nothing: the property is its own by then.
            self.lake.set_property(self.name, PUBLISHED_PROPERTY, moved.to_json(), instead_of=last.to_json())
        return self._report(table, last, "nothing", recorded_rotation(self.lake, last))

    def _report(
        self, table: Table, state: Published, kind: str, record: RotationRecord | None = None
    ) -> Report:
        energy = None
        if record is not None:
            energy = (record.rotation.energy(record.moment, state.dim), record.moment.energy(state.dim))
        return Report(
            table=self.name,
            run_id=state.run_id,
            kind=kind,
            rows=live_rows(table),
            release=self.request.release,
            rotation=energy,
            seconds=round(monotonic() - self.started, 3),
        )

    def _file_rows(self) -> int:
        text = _TEXT_BYTES if "text" in self.config.columns else 0
        width = bytes_per_vector(self.config.type, self.dim) + _ROW_BYTES + text
        return max(1, self.config.file_mib * 2**20 // width)
