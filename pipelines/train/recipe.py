"""What a training run is made from: one YAML file, the same for two cores and for a cluster."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.config import Config, load_yaml, parse
from pipelines.errors import ConfigError
from pipelines.train.architecture import Architecture

Positive = Annotated[int, Field(ge=1)]
Stage = Literal["mlm", "pretrain", "finetune"]


class OptimiserConfig(Config):
    """AdamW and its learning rate.

    Attributes:
        peak: Highest learning rate.
        betas: Of the moments.
        eps: Added to the root of the second moment.
        weight_decay: Of matrices; biases and LayerNorms do not decay.
        clip: Most L2 norm of the gradient; None is no limit.
        schedule: After the warm-up: `linear` to 0 at the end, `inverse_sqrt` of the steps, or `constant`.
        warmup_steps: Steps of linear rise from 0. One of the two.
        warmup_share: The same as a share of all steps. One of the two.
    """

    peak: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    schedule: Literal["linear", "inverse_sqrt", "constant"] = "linear"
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_share: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if (self.warmup_steps is None) == (self.warmup_share is None):
            raise ValueError("give warmup_steps or warmup_share, one of the two")
        return self

    def warmup(self, steps: int) -> int:
        """Steps of the warm-up in a run of so many."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        assert self.warmup_share is not None  # one of the two
        return round(self.warmup_share * steps)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, both counted from 0; a run has `steps`."""
        warmup = self.warmup(steps)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        if self.schedule == "linear":
            return self.peak * (steps - step) / max(1, steps - warmup)
        if self.schedule == "inverse_sqrt":
            return float(self.peak * (max(1, warmup) / (step + 1)) ** 0.5)
        return self.peak


class GuideConfig(Config):
    """What a second, fixed model knows of a batch's texts.

    Attributes:
        model: Name of a file in `conf/models`, or the path of one.
        mask: Whether a candidate that the guide finds nearer to the query than its own document is left out
            as a likely false negative (GISTEmbed, arXiv 2402.16829).
        margin: So much nearer, in inner product, it must be.
        distil: Weight of the divergence of the batch's similarities at each dimension from the guide's, next
            to 1 for the contrastive loss; 0 is none.
        distil_temperature: Of both similarities in it.
    """

    model: str
    mask: bool = True
    margin: float = 0.0
    distil: float = Field(default=0.0, ge=0)
    distil_temperature: float = Field(default=0.05, gt=0)


class ObjectiveConfig(Config):
    """The loss of a batch of pairs.

    Attributes:
        temperature: What cosine similarities are divided by; fixed.
        bidirectional: Whether documents are to find their queries too, with half of the weight.
        contrast: Weight of the contrastive loss; 0 leaves distillation alone.
        dimensions: Each has a loss of its own, on vectors cut to it and normalised again; None is the
            model's full dimension alone.
        weights: Of the dimensions' losses, which are added up; None is 1 each.
        guide: None is no guide.
    """

    temperature: float = Field(default=0.02, gt=0)
    bidirectional: bool = False
    contrast: float = Field(default=1.0, ge=0)
    dimensions: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None
    guide: GuideConfig | None = None

    @model_validator(mode="after")
    def _matches(self) -> Self:
        dims = self.dimensions
        if dims is not None and (not dims or min(dims) < 1 or len(set(dims)) != len(dims)):
            raise ValueError("dimensions must be positive, each at most once")
        if self.weights is not None and len(self.weights) != len(dims or ()):
            raise ValueError("weights must be as many as dimensions")
        if not self.contrast and not (self.guide and self.guide.distil):
            raise ValueError("contrast is 0 and nothing is distilled: there is no loss")
        return self


class ClustersConfig(Config):
    """Clusters of a source, whose documents are near each other, as what a batch is drawn from.

    Attributes:
        model: Whose vectors are clustered: name of a file in `conf/models`, or the path of one.
        pairs: Of a cluster, on average. Several batches of them: what is left over in each is not trained on.
    """

    model: str
    pairs: Positive


class HeadRecipe(Config):
    """A linear map of the pooled vector, trained with the model; it begins as one that changes nothing.

    Attributes:
        peak: Its highest learning rate; warm-up and schedule are the optimiser's.
        fit_steps: So many steps of the head alone come before the first: the guide's vectors, which must be
            those of `start`, take the place of the model's, so that they cost no forward pass.
        fit_peak: Learning rate at the first of them; it falls to 0 on a line.
    """

    peak: float = Field(default=3e-4, gt=0)
    fit_steps: int = Field(default=0, ge=0)
    fit_peak: float = Field(default=1e-3, gt=0)


class PairSource(Config):
    """One source of pairs.

    Attributes:
        name: Its `source` in the table of pairs.
        pairs: How many the run takes of it in an epoch; None is all whole batches that there are.
        query_prefix: Before each query, without `: `.
        document_prefix: Before each document and hard negative.
        negatives: `mined` by `embedlake mine`, `random` documents of the source, or `none`.
    """

    name: str = Field(min_length=1)
    pairs: int | None = Field(default=None, ge=1)
    query_prefix: str = ""
    document_prefix: str = ""
    negatives: Literal["none", "mined", "random"] = "none"


class _Recipe(Config):
    """What recipes of all stages have.

    Attributes:
        name: Of the model that comes out; lower-case letters, digits, `.`, `_`, `-`.
        start: Name of a file in `conf/models`, or the path of one; None starts from random weights.
        architecture: Sizes of the model; needed with random weights, else checked against the checkpoint.
        tokenizer: A model of `conf/models` whose tokenizer the new one gets; needed with random weights.
        dropout: Of every layer.
        seed: Of all that is drawn.
        optimiser: How weights change.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)
    start: str | None = None
    architecture: Architecture | None = None
    tokenizer: str | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    optimiser: OptimiserConfig

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if self.start is None and (self.architecture is None or self.tokenizer is None):
            raise ValueError("without start, a model of random weights needs architecture and tokenizer")
        return self

    def fingerprint(self) -> str:
        """16 hex digits of everything that the recipe says."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class MlmRecipe(_Recipe):
    """Masked language modelling on texts packed to one length.

    Attributes:
        stage: `mlm`.
        sources: Sources of `chunks` to take texts from; None is all.
        tokens: Length of a packed sequence.
        mask: Share of the tokens to be told: of these 80 % are masked, 10 % replaced, 10 % left.
        held_out: Batches of sequences that are not trained on: their loss is told at every checkpoint.
        eval_mask: Share of their tokens that are to be told.
        batch: Sequences of a step, on all workers together.
        steps: Of the run; the texts are gone through as often as it takes.
    """

    stage: Literal["mlm"]
    sources: tuple[str, ...] | None = None
    tokens: int = Field(default=2048, ge=8)
    mask: float = Field(default=0.3, gt=0, lt=1)
    held_out: int = Field(default=0, ge=0)
    eval_mask: float = Field(default=0.15, gt=0, lt=1)
    batch: Positive
    steps: Positive


class ContrastiveRecipe(_Recipe):
    """Contrastive training on pairs, each batch of one source.

    Attributes:
        stage: `pretrain` or `finetune`.
        sources: Where the pairs come from.
        pairs: Sum of the sources' pairs, to be checked; None where a source takes what there is.
        batch: Pairs of a step, on all workers together.
        epochs: How often each pair is seen.
        max_tokens: Where texts are cut, specials and prefix included.
        negatives: Hard negatives of each pair of a source that has some, drawn anew in every epoch.
        filtered: Whether pairs that the consistency filter has dropped are left out.
        teacher: Whose judgements and hard negatives are meant: what the tables' column `asked` says of
            them, or its parts up to a slash. None where there are those of one only.
        too_few: What a source with fewer pairs than a batch is: an `error`, or to `skip`.
        clusters: Each batch is of one cluster of a source (arXiv 2407.18887); None is of one source.
        objective: The loss.
        head: Of the model that comes out; None keeps that of `start`, or none.
        prefixes: By role, of the model that comes out; None keeps those of `start`.
        layer_norm: Of the model that comes out, before slices; None keeps that of `start`.
    """

    stage: Literal["pretrain", "finetune"]
    sources: tuple[PairSource, ...] = Field(min_length=1)
    pairs: int | None = Field(default=None, ge=1)
    batch: Positive
    epochs: Positive = 1
    max_tokens: int = Field(ge=8)
    negatives: int = Field(default=0, ge=0)
    filtered: bool = True
    teacher: str | None = None
    too_few: Literal["error", "skip"] = "error"
    clusters: ClustersConfig | None = None
    objective: ObjectiveConfig = ObjectiveConfig()
    head: HeadRecipe | None = None
    prefixes: dict[str, str] | None = None
    layer_norm: bool | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"source '{twice[0]}' is given twice")
        guide = self.objective.guide
        if self.head and self.head.fit_steps and (guide is None or guide.model != self.start):
            raise ValueError("head.fit_steps needs objective.guide.model to be the model of start")
        counts = [source.pairs for source in self.sources]
        known = [count for count in counts if count is not None]
        if self.pairs is not None and (len(known) < len(counts) or sum(known) != self.pairs):
            raise ValueError(f"pairs is {self.pairs:,}, but the sources' pairs are {sum(known):,} together")
        for source in self.sources:
            if source.pairs is not None and source.pairs % self.batch:
                raise ValueError(
                    f"source '{source.name}' has {source.pairs:,} pairs, no whole number of batches of "
                    f"{self.batch:,}: {source.pairs // self.batch * self.batch:,} are"
                )
        if not self.negatives and any(source.negatives != "none" for source in self.sources):
            raise ValueError("sources have negatives, but negatives, how many of them, is 0")
        if self.negatives and all(source.negatives == "none" for source in self.sources):
            raise ValueError(f"negatives is {self.negatives}, but no source has negatives: mined or random")
        return self


Recipe = MlmRecipe | ContrastiveRecipe


def load_recipe(file: Path, stage: Stage) -> Recipe:
    """The recipe in a file.

    Raises:
        ConfigError: It is malformed, contradicts itself, or is of another stage.
    """
    values = load_yaml(file)
    if values.get("stage") != stage:
        raise ConfigError(
            f"{file} is a recipe of stage '{values.get('stage')}', not '{stage}'",
            f"Run 'embedlake train {values.get('stage')}'" if isinstance(values.get("stage"), str) else "",
        )
    return (
        parse(MlmRecipe, values, str(file)) if stage == "mlm" else parse(ContrastiveRecipe, values, str(file))
    )
