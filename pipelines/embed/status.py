"""How far each model is with the lake's chunks."""

from dataclasses import dataclass

from pipelines.embed.plan.survey import pending_rows, rejected_chunks
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.lake.filters import equals
from pipelines.lake.models import recorded_models
from pipelines.progress import Progress, Silent


@dataclass(frozen=True)
class ModelCounts:
    """A model's share of the chunks, each counted by itself.

    Attributes:
        rows: Embeddings.
        pending: Chunks that have neither an embedding nor a reject.
        rejects: Chunks that the model could not embed.
    """

    rows: int
    pending: int
    rejects: int


def model_counts(lake: Lake, progress: Progress | None = None) -> dict[str, ModelCounts]:
    """The counts of every model that the lake knows, by its key; empty where nothing was embedded yet."""
    progress = progress or Silent()
    if not (lake.exists("chunks") and lake.exists("embeddings")):
        return {}
    embeddings, rejects = lake.table("embeddings"), lake.table("rejects")
    counts = {}
    for key in sorted(recorded_models(embeddings.properties)):
        with progress.step(f"counting {key}", None, "models"), explained(lake.config):
            rows = int(embeddings.scan(row_filter=equals("model", key)).count())
            rejected = len(rejected_chunks(rejects, key))
        counts[key] = ModelCounts(rows, pending_rows(lake, key, progress), rejected)
    return counts
