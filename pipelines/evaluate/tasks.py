"""Tasks of the `mteb` library, with the pipeline's encoder and prefixes. Needs `embedlake[mteb]`."""
# ruff: noqa: N806  (array names carry their shape: x_ND)

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import mteb
import numpy as np
import numpy.typing as npt
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType

from pipelines.encoder.conf import prefixed
from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.model import Encoder
from pipelines.errors import ConfigError, InputError
from pipelines.evaluate.roles import role_of
from pipelines.evaluate.vectors import encode_texts
from pipelines.progress import Progress


@dataclass(frozen=True)
class TaskScore:
    """A task's main score at a dimension.

    Attributes:
        task: Name.
        type: As mteb names it: `Retrieval`, `STS`, and so on.
        metric: The main score's name.
        dim: Dimension of the vectors.
        score: 0 to 1 (correlations: from -1); the mean over the task's splits and languages.
    """

    task: str
    type: str
    metric: str
    dim: int
    score: float


@dataclass(frozen=True)
class TasksReport:
    """All tasks at all dimensions.

    Attributes:
        model: The model's key.
        precision: Of the forward pass.
        max_tokens: Where rows were cut.
        mteb: Version of the library.
        rows: By task, then dimension.
    """

    model: str
    precision: str
    max_tokens: int
    mteb: str
    rows: tuple[TaskScore, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)

    def as_markdown(self) -> str:
        """A table of hundredths: a line a task, a column a dimension, and the mean."""
        dims = list(dict.fromkeys(row.dim for row in self.rows))
        by_task: dict[str, list[TaskScore]] = {}
        for row in self.rows:
            by_task.setdefault(row.task, []).append(row)
        means = [np.mean([row.score for row in self.rows if row.dim == dim]) for dim in dims]
        return "\n".join(
            [
                f"{self.model}, {self.precision}, rows of at most {self.max_tokens} tokens; "
                f"mteb {self.mteb}.",
                "",
                f"| task | type | score | {' | '.join(str(dim) for dim in dims)} |",
                f"| --- | --- | --- |{' ---: |' * len(dims)}",
                *(
                    f"| {task} | {rows[0].type} | {rows[0].metric} | "
                    f"{' | '.join(f'{100 * row.score:.2f}' for row in rows)} |"
                    for task, rows in by_task.items()
                ),
                f"| mean | | | {' | '.join(f'{100 * mean:.2f}' for mean in means)} |",
                "",
            ]
        )


class TaskEncoder(AbsEncoder):
    """The pipeline's encoder as mteb asks for it.

    Attributes:
        dim: Dimension of the vectors that it gives.
    """

    mteb_model_meta: ModelMeta

    def __init__(self, encoder: Encoder, dim: int, progress: Progress, *, keep: bool) -> None:
        """Wraps an encoder.

        Args:
            encoder: The model.
            dim: See the class.
            progress: Told of the encoding.
            keep: Keep the full vectors of all texts in memory, for another dimension to slice.
        """
        self.dim = dim
        self._encoder, self._progress, self._keep = encoder, progress, keep
        self._known: dict[str, npt.NDArray[np.float32]] = {}
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"embedlake/{encoder.conf.name}",
                "revision": encoder.key,
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> npt.NDArray[np.float32]:
        """Vectors of the texts in the batches, x_Nd float32 with rows of length 1."""
        del hf_split, hf_subset, kwargs
        texts = [text for batch in inputs for text in batch["text"]]
        conf = self._encoder.conf
        side = None if prompt_type is None else str(prompt_type.value)
        prefix = conf.prefix(role_of(conf, task_metadata.name, task_metadata.type, side))
        return slice_renormalise(self._full(texts, prefix, task_metadata.name), self.dim)

    def forget(self) -> None:
        """Drops the vectors that it kept."""
        self._known.clear()

    def _full(self, texts: Sequence[str], prefix: str, task: str) -> npt.NDArray[np.float32]:
        rows = [prefixed(prefix, text) for text in texts]
        fresh = {row: text for row, text in zip(rows, texts, strict=True) if row not in self._known}
        known = self._known if self._keep else {}
        if fresh:
            new = list(fresh.values())
            x_UD = encode_texts(self._encoder, new, prefix, self._progress, f"encoding {task}")
            known.update(zip(fresh, x_UD, strict=True))
        if not rows:
            return np.empty((0, self._encoder.dimension), dtype=np.float32)
        return np.stack([known[row] for row in rows])


def load_tasks(names: Sequence[str]) -> list[AbsTask]:
    """The tasks of these names, their data not yet loaded.

    Raises:
        ConfigError: No task is named, one is unknown, or it is not of text alone.
    """
    if not names:
        raise ConfigError("no task is named", "For example --tasks NFCorpus,STSBenchmark")
    tasks = []
    for name in names:
        try:
            task = mteb.get_task(name)
        except KeyError as error:
            reason = str(error.args[0]).removeprefix("KeyError: ")
            raise ConfigError(f"mteb has no task of that name: {reason}") from error
        if list(task.metadata.modalities) != ["text"]:
            raise ConfigError(f"the task '{name}' is of {', '.join(task.metadata.modalities)}, not of text")
        tasks.append(task)
    return tasks


def evaluate_tasks(
    encoder: Encoder, tasks: Sequence[AbsTask], dims: Sequence[int], progress: Progress
) -> TasksReport:
    """Runs tasks at each dimension; a text is encoded once for all of them.

    With more than one dimension the full vectors of a task's texts are kept in memory until it is done.

    Args:
        encoder: The model.
        tasks: The tasks; their data are fetched where they are not at hand.
        dims: Dimensions to slice to.
        progress: Told of the encoding.

    Raises:
        InputError: The data of a task cannot be had.
    """
    model = TaskEncoder(encoder, dims[0], progress, keep=len(dims) > 1)
    rows = []
    for task in tasks:
        parts = task.metadata.tasks if isinstance(task, AbsTaskAggregate) else [task]
        for part in parts:
            _load(part)
        for dim in dims:
            model.dim = dim
            results = mteb.evaluate(
                model, task, cache=None, show_progress_bar=False, co2_tracker=False, raise_error=True
            )
            score = float(results.task_results[0].get_score())
            metadata = task.metadata
            rows.append(TaskScore(metadata.name, metadata.type, metadata.main_score, dim, score))
        model.forget()
        for part in parts:
            part.unload_data()
    conf = encoder.conf
    return TasksReport(
        model=encoder.key,
        precision=encoder.precision,
        max_tokens=conf.evaluation_tokens or conf.max_tokens,
        mteb=mteb.__version__,
        rows=tuple(rows),
    )


def _load(task: AbsTask) -> None:
    datasets.disable_progress_bars()
    try:
        task.load_data()
    except Exception as error:  # the hub's client and datasets raise types of their own
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the data of '{task.metadata.name}' can neither be found here nor fetched: {reason}",
            "Run it once where there is internet, and carry over HF_HOME",
        ) from error
