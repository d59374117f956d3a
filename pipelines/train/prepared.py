"""Which batches a run has in the lake."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pipelines.lake import Lake
from pipelines.lake.beside import Teacher
from pipelines.lake.faults import explained
from pipelines.lake.filters import equals
from pipelines.lake.live import LiveFiles
from pipelines.lake.training_tables import BATCHES
from pipelines.train.recipe import Recipe

_PROPERTY = "embedlake.batches."  # + name of the run -> `Prepared`, and what of the recipe it is for, as JSON
# What of a recipe decides nothing about its batches.
_APART = {"name", "stage", "optimiser", "architecture", "dropout", "prefixes", "layer_norm", "start", "head"}


@dataclass(frozen=True)
class Prepared:
    """A run's batches in the lake.

    Attributes:
        data: Names them in the table `batches`.
        steps: Of the run.
        batch: Rows of each.
        shards: Parts that a batch's slots are stored in.
    """

    data: str
    steps: int
    batch: int
    shards: int


def data_fingerprint(recipe: Recipe, tokenizer: str) -> str:
    """16 hex digits of what a recipe says about its batches, and of the tokenizer that makes their ids."""
    said = {key: value for key, value in recipe.model_dump(mode="json").items() if key not in _APART}
    if "objective" in said:
        said["objective"] = (said["objective"]["guide"] or {}).get("model")
    text = json.dumps({**said, "tokenizer": tokenizer}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_name(
    lake: Lake, run: str, fingerprint: str, tables: Sequence[str], teachers: Sequence[Teacher | None] = ()
) -> str:
    """A name for a run's batches: another one if any of what they are made from has changed.

    Were it the same, a checkpoint could go on with other batches than it began with.
    """
    snapshots = []
    for name in tables:
        snapshot = lake.table(name).current_snapshot() if lake.exists(name) else None
        snapshots.append([name, None if snapshot is None else snapshot.snapshot_id])
    text = json.dumps([fingerprint, snapshots, [teacher and asdict(teacher) for teacher in teachers]])
    return f"{run}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def recorded(lake: Lake, run: str, fingerprint: str) -> Prepared | None:
    """A run's batches, made earlier from the same words of the recipe; None where there are none.

    They stay what they are when pairs come or go meanwhile: a run that was begun ends on what it began with.
    """
    if not lake.exists(BATCHES.name):
        return None
    text = lake.table(BATCHES.name).properties.get(_PROPERTY + run)
    if text is None:
        return None
    values = json.loads(text)
    return Prepared(**values["batches"]) if values["recipe"] == fingerprint else None


def record(lake: Lake, run: str, fingerprint: str, prepared: Prepared) -> None:
    """Says that a run's batches are written, all of them, and takes its earlier ones away.

    Killed between the two, the earlier ones stay until the run's batches are written anew once more.
    """
    values = {"recipe": fingerprint, "batches": asdict(prepared)}
    lake.set_property(BATCHES.name, _PROPERTY + run, json.dumps(values))
    _sweep(lake, run, prepared.data)


def forget(lake: Lake, run: str) -> None:
    """Takes a run's batches away, so that the next call prepares them anew."""
    if lake.exists(BATCHES.name):
        lake.set_property(BATCHES.name, _PROPERTY + run, json.dumps({"recipe": "", "batches": None}))
        _sweep(lake, run, None)


def _sweep(lake: Lake, run: str, keep: str | None) -> None:
    """Deletes a run's batches but those to keep; where others commit all the while, the next call does it."""
    own = re.compile(re.escape(run) + "-[0-9a-f]{16}")
    with explained(lake.config):
        table = lake.table(BATCHES.name)
        for data in set(LiveFiles(lambda file: str(file.partition[0])).of(table)):
            if data != keep and own.fullmatch(data):
                lake.table(BATCHES.name).delete(
                    equals("data", data)
                )  # whole partitions: nothing is rewritten
