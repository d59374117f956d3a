"""What the workers of a run tell the driver, and what the driver makes of it."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from pipelines.errors import EmbedlakeError
from pipelines.train.worker import StepReport


class Board:
    """A Ray actor that workers write to and the driver reads."""

    def __init__(self) -> None:
        self._reports: list[StepReport] = []
        self._error: EmbedlakeError | None = None
        self._complaint = ""

    def report(self, report: StepReport) -> None:
        """A step was done."""
        self._reports.append(report)

    def fail(self, error: EmbedlakeError) -> None:
        """A worker cannot go on, nor could another in its place."""
        self._error = self._error or error

    def complain(self, line: str) -> None:
        """A worker ended by something that another may not meet."""
        self._complaint = line

    def complaint(self) -> str:
        """The last one; empty where a worker was killed without a word."""
        return self._complaint

    def done(self) -> None:
        """Answers when all that was told before has arrived."""

    def take(self) -> tuple[list[StepReport], EmbedlakeError | None]:
        """What came since the last time."""
        taken, self._reports = self._reports, []
        return taken, self._error


class Scalars:
    """TensorBoard's files of a run.

    Attributes:
        names: Of the losses of a step, in their order.
    """

    def __init__(self, folder: Path, first_step: int, names: tuple[str, ...]) -> None:
        self.names = names
        # What a killed run had written beyond its last checkpoint is left out of the curves.
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)

    def add(self, report: StepReport) -> None:
        """A step's figures."""
        figures = {
            "loss": sum(report.losses),
            "gradient_norm": report.gradient_norm,
            "learning_rate": report.rate,
            "tokens_per_second": report.tokens / max(report.seconds, 1e-9),
        }
        if len(self.names) > 1:
            figures |= {f"loss_{n}": loss for n, loss in zip(self.names, report.losses, strict=True)}
        for name, figure in figures.items():
            self._writer.add_scalar(f"train/{name}", figure, report.step)
        if report.held_out is not None:
            self._writer.add_scalar("held_out/loss", report.held_out, report.step)

    def close(self) -> None:
        """Writes what is held."""
        self._writer.close()
