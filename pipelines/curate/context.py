"""What every step of a curate run is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from pipelines.curate.config import CurateConfig
from pipelines.curate.tasks import task_progress
from pipelines.encoder.conf import ModelConf
from pipelines.lake import Lake
from pipelines.progress import Progress


@dataclass
class RunContext:
    """A run's session, lake and settings.

    Attributes:
        spark: The session; its snapshots carry the run's id.
        lake: The lake.
        model: Whose tokenizer cuts the chunks.
        config: Of the stage.
        progress: Is told each step.
        run_id: Of the run, for its branches and snapshots.
    """

    spark: SparkSession
    lake: Lake
    model: ModelConf
    config: CurateConfig
    progress: Progress
    run_id: str

    def __post_init__(self) -> None:
        self.spark.conf.set("spark.sql.iceberg.snapshot-property.embedlake.run-id", self.run_id)
        self.spark.conf.set("spark.sql.iceberg.snapshot-property.embedlake.stage", "curate")

    def told(self, label: str, total: int | None, unit: str, action: Callable[[], Any]) -> Any:
        """Does something, and tells of it."""
        with self.progress.step(label, total, unit) as step, task_progress(self.spark, step, total):
            return action()
