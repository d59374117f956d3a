"""What a recipe will take, before anything runs: steps, tokens, memory, accelerator-hours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.encoder.accelerators import ASSUMED_SHARE, Accelerator
from pipelines.encoder.flops import Flops
from pipelines.train.config import Micro
from pipelines.train.recipe import ContrastiveRecipe, MlmRecipe, PairSource, Recipe

_BYTES = 4
_STATE = 4 * _BYTES  # weight, gradient and two moments of AdamW


@dataclass(frozen=True)
class Sizes:
    """A model, as far as a plan needs it.

    Attributes:
        parameters: Trained numbers.
        layers: Transformer layers.
        hidden: Dimension of a token's vector.
        inner: Dimension inside a feed-forward block.
        flops: Of a forward pass.
    """

    parameters: int
    layers: int
    hidden: int
    inner: int
    flops: Flops


@dataclass(frozen=True)
class SourcePlan:
    """One source in a run.

    Attributes:
        name: Of the source.
        pairs: An epoch takes so many; None where only the lake can tell.
        batches: Whole batches in that.
        prefixes: Of queries and documents.
        negatives: `none`, `mined` or `random`.
    """

    name: str
    pairs: int | None
    batches: int | None
    prefixes: tuple[str, str]
    negatives: str


@dataclass(frozen=True)
class Hours:
    """What one kind of accelerator would take.

    Attributes:
        accelerator: Its name.
        hours: Of all of them together.
        cost: Of these hours; None where no price is known.
    """

    accelerator: str
    hours: float
    cost: float | None


@dataclass(frozen=True)
class TrainPlan:
    """A run before it runs.

    Attributes:
        name: Of the model that comes out.
        stage: `mlm`, `pretrain` or `finetune`.
        fingerprint: Of the recipe.
        sources: Of the pairs, or of the texts.
        pairs: Of an epoch; packed sequences of the run for `mlm`. None where only the lake can tell.
        batch: Pairs or sequences of a step.
        steps: Of the run.
        tokens: That the model reads, each counted once a step; at most, where their number is not known.
        measured: Whether `tokens` follows from the lake's texts and is no bound.
        parameters: Of the model.
        worker_bytes: Memory of one worker, estimated: state, activations of a micro-batch, vectors, block.
        hours: By accelerator, cheapest first.
    """

    name: str
    stage: str
    fingerprint: str
    sources: tuple[SourcePlan, ...]
    pairs: int | None
    batch: int
    steps: int | None
    tokens: int | None
    measured: bool
    parameters: int
    worker_bytes: int
    hours: tuple[Hours, ...]


@dataclass(frozen=True)
class _Work:
    """What a run reads: `pairs` of an epoch in `steps` of the run, and how its forward passes are shaped."""

    pairs: int | None
    steps: int | None
    tokens: int | None
    measured: bool
    row_tokens: int
    texts: int
    passes: int


def plan_training(
    recipe: Recipe,
    sizes: Sizes,
    micro: Micro,
    workers: int,
    kinds: Sequence[Accelerator],
    available: Mapping[str, int] | None = None,
    mean_tokens: Mapping[str, tuple[float, float]] | None = None,
) -> TrainPlan:
    """Adds it all up.

    Args:
        recipe: What to run.
        sizes: Of its model.
        micro: How a worker cuts its share of a batch.
        workers: That share each batch.
        kinds: Accelerators to reckon with.
        available: Pairs that the lake has, by source, for sources whose number the recipe leaves open.
        mean_tokens: Of a query and of a document, by source, prefixes and specials included; the bound of the
            recipe where None.
    """
    if isinstance(recipe, MlmRecipe):
        sources = tuple(
            SourcePlan(name, None, None, ("", ""), "none") for name in recipe.sources or ("every source",)
        )
        sequences = recipe.steps * recipe.batch
        # Forward, and backwards twice that.
        work = _Work(sequences, recipe.steps, sequences * recipe.tokens, True, recipe.tokens, 0, 3)
    else:
        sources = tuple(_source(recipe, source, available or {}) for source in recipe.sources)
        work = _contrastive(recipe, sources, workers, mean_tokens)
    return TrainPlan(
        name=recipe.name,
        stage=recipe.stage,
        fingerprint=recipe.fingerprint(),
        sources=sources,
        pairs=work.pairs,
        batch=recipe.batch,
        steps=work.steps,
        tokens=work.tokens,
        measured=work.measured,
        parameters=sizes.parameters,
        worker_bytes=_worker_bytes(sizes, micro, work, recipe.batch),
        hours=() if work.tokens is None else _hours(sizes, work, kinds),
    )


def _source(recipe: ContrastiveRecipe, source: PairSource, available: Mapping[str, int]) -> SourcePlan:
    count = source.pairs if source.pairs is not None else available.get(source.name)
    batches = None if count is None else count // recipe.batch
    return SourcePlan(
        name=source.name,
        pairs=None if batches is None else batches * recipe.batch,
        batches=batches,
        prefixes=(source.query_prefix, source.document_prefix),
        negatives=source.negatives,
    )


def _contrastive(
    recipe: ContrastiveRecipe,
    sources: Sequence[SourcePlan],
    workers: int,
    mean_tokens: Mapping[str, tuple[float, float]] | None,
) -> _Work:
    # Without a graph, with one, and backwards twice that: less by up to a quarter where graphs are kept.
    row_tokens, passes = recipe.max_tokens, 4
    texts = -(-recipe.batch // workers) * (2 + recipe.negatives)
    if any(source.pairs is None for source in sources):
        return _Work(None, None, None, False, row_tokens, texts, passes)
    pairs = sum(source.pairs or 0 for source in sources)
    measured = mean_tokens is not None and all(source.name in mean_tokens for source in sources)
    tokens = 0
    for source in sources:
        bound = (recipe.max_tokens, recipe.max_tokens)
        query, document = mean_tokens[source.name] if measured and mean_tokens else bound
        documents = 1 + (recipe.negatives if source.negatives != "none" else 0)
        tokens += round((source.pairs or 0) * (query + documents * document))
    steps = pairs // recipe.batch * recipe.epochs
    return _Work(pairs, steps, tokens * recipe.epochs, measured, row_tokens, texts, passes)


def _worker_bytes(sizes: Sizes, micro: Micro, work: _Work, batch: int) -> int:
    """State; activations of a micro-batch and of kept ones; vectors of own texts and of everybody's."""
    # A layer keeps about so many numbers of each token for its way back, in 2 bytes: queries, keys, values,
    # attention's output, two residuals and two LayerNorms, and three of the feed-forward block.
    each = 2 * sizes.layers * (10 * sizes.hidden + 3 * sizes.inner)
    held = (max(micro.batch_tokens, work.row_tokens) + micro.keep_tokens) * each
    vectors = (2 * work.texts + 2 * 2 * batch) * sizes.hidden * _BYTES if work.texts else 0
    return sizes.parameters * _STATE + held + vectors


def _hours(sizes: Sizes, work: _Work, kinds: Sequence[Accelerator]) -> tuple[Hours, ...]:
    assert work.tokens is not None
    # Attention at the recipe's own length: a bound, like the tokens, where the lengths are not known.
    operations = sizes.flops.of(work.tokens, work.tokens * work.row_tokens) * work.passes
    found = []
    for kind in kinds:
        hours = operations / (kind.bf16_tflops * 1e12 * ASSUMED_SHARE) / 3600
        cost = None if kind.price_per_hour is None else hours * kind.price_per_hour
        found.append(Hours(kind.name, hours, cost))
    return tuple(sorted(found, key=lambda row: (row.cost is None, row.cost or 0.0, row.hours)))
