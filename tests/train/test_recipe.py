"""Recipes, what is refused of them, and what they will take."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import conf_dir, load_yaml, parse
from pipelines.encoder.accelerators import accelerators
from pipelines.encoder.conf import load_model_conf
from pipelines.errors import ConfigError
from pipelines.pairs.config import PairsConfig
from pipelines.train.config import Micro
from pipelines.train.plan import TrainPlan, plan_training
from pipelines.train.recipe import ContrastiveRecipe, MlmRecipe, Stage, load_recipe
from pipelines.train.start import model_sizes
from tests.train.lakes import contrastive, masked_lm

NOMIC = conf_dir() / "recipes/nomic-embed-text-v1.5"
SMALL = conf_dir() / "recipes/small"


def planned(stage: Stage, workers: int = 8) -> TrainPlan:
    recipe = load_recipe(NOMIC / f"{stage}.yaml", stage)
    return plan_training(recipe, model_sizes(recipe), Micro(32_768), workers, accelerators())


def test_the_published_pretraining() -> None:
    plan = planned("pretrain")
    assert (plan.pairs, plan.steps, plan.batch) == (234_553_344, 14_316, 16_384)
    # The report's table of sources, in millions.
    by_name = {source.name: (source.pairs or 0) / 1e6 for source in plan.sources}
    published = {"paq": 52.953, "reddit": 64.979, "s2orc-title-abstract": 35.439, "amazon-reviews": 38.683}
    for name, millions in published.items():
        assert by_name[name] == pytest.approx(millions, abs=0.0006)
    assert len(plan.sources) == 29
    recipe = load_recipe(NOMIC / "pretrain.yaml", "pretrain")
    assert isinstance(recipe, ContrastiveRecipe)
    assert recipe.objective.dimensions is None
    assert recipe.optimiser.rate(699, 14_316) == 2e-4
    assert recipe.optimiser.rate(2799, 14_316) == pytest.approx(1e-4)


def test_the_published_finetuning() -> None:
    plan = planned("finetune")
    assert (plan.pairs, plan.steps, plan.batch) == (1_692_672, 6_612, 256)
    recipe = load_recipe(NOMIC / "finetune.yaml", "finetune")
    assert isinstance(recipe, ContrastiveRecipe)
    assert (recipe.negatives, recipe.objective.dimensions) == (7, (768, 512, 256, 128, 64))
    assert recipe.optimiser.rate(399, 6612) == 2e-5
    assert 0 < recipe.optimiser.rate(6611, 6612) < 1e-8
    assert recipe.prefixes == load_model_conf("nomic-embed-text-v1.5").prefixes


def test_the_published_masked_language_model() -> None:
    plan = planned("mlm")
    assert (plan.steps, plan.batch, plan.tokens) == (100_000, 4096, 100_000 * 4096 * 2048)
    # 137 million are the checkpoint's 546,938,168 bytes of float32.
    assert plan.parameters == pytest.approx(546_938_168 / 4, rel=0.001)
    recipe = load_recipe(NOMIC / "mlm.yaml", "mlm")
    assert isinstance(recipe, MlmRecipe)
    assert recipe.optimiser.warmup(recipe.steps) == 6000


def test_more_workers_share_the_vectors_of_a_batch() -> None:
    assert planned("pretrain", 1).worker_bytes > planned("pretrain", 8).worker_bytes > 137e6 * 16


def test_a_sources_measured_lengths_take_the_place_of_the_bound() -> None:
    recipe = contrastive(sources=[{"name": "s", "pairs": 160, "negatives": "mined"}, {"name": "t"}])
    args = (recipe, model_sizes(recipe), Micro(1024), 1, accelerators())
    assert plan_training(*args).pairs is None
    bound = plan_training(*args, available={"t": 39})
    assert (bound.pairs, bound.steps, bound.measured) == (160 + 32, 12, False)
    assert bound.tokens == 24 * (160 * 4 + 32 * 2)
    known = plan_training(*args, available={"t": 39}, mean_tokens={"s": (3.0, 5.0), "t": (4.0, 10.0)})
    assert (known.tokens, known.measured) == (160 * (3 + 3 * 5) + 32 * (4 + 10), True)


def written(folder: Path, **changed: Any) -> Path:
    values = contrastive().model_dump(mode="json") | changed
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bacth": 3}, "unknown setting 'bacth'.*'batch'"),
        ({"objective": {"temprature": 1}}, "unknown setting 'objective.temprature'.*temperature"),
        ({"pairs": 100, "sources": [{"name": "a", "pairs": 64}]}, "pairs is 100, but .* 64 together"),
        ({"pairs": 64, "sources": [{"name": "a"}]}, "pairs is 64"),
        ({"sources": [{"name": "a", "pairs": 60}]}, "'a' has 60 pairs, no whole number of batches of 16: 48"),
        ({"sources": [{"name": "a"}, {"name": "a"}]}, "source 'a' is given twice"),
        ({"negatives": 0}, "negatives, how many of them, is 0"),
        ({"objective": {"dimensions": [8, 8]}}, "each at most once"),
        ({"objective": {"dimensions": [8, 4], "weights": [1]}}, "weights must be as many"),
        ({"objective": {"contrast": 0}}, "there is no loss"),
        ({"optimiser": {"peak": 1}}, "warmup_steps or warmup_share"),
        ({"architecture": None}, "needs architecture and tokenizer"),
        ({"stage": "mlm"}, "is a recipe of stage 'mlm', not 'finetune'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_recipe(written(tmp_path, **changed), "finetune")


def test_a_recipes_fingerprint_is_of_all_that_it_says() -> None:
    assert contrastive().fingerprint() == contrastive().fingerprint()
    others = [contrastive(seed=1), contrastive(batch=8), contrastive(objective={"temperature": 0.1})]
    assert len({recipe.fingerprint() for recipe in (contrastive(), masked_lm(), *others)}) == 5


@pytest.mark.parametrize(
    "file", sorted((conf_dir() / "recipes/small").rglob("*.yaml")), ids=lambda file: file.stem
)
def test_the_small_recipes_are_whole(file: Path) -> None:
    values = load_yaml(file)
    if "stage" not in values:
        assert parse(PairsConfig, values, file.name).held_out > 0
        return
    recipe = load_recipe(file, values["stage"])
    if isinstance(recipe, ContrastiveRecipe):
        assert recipe.pairs == sum(source.pairs or 0 for source in recipe.sources)
        assert file.stem in (recipe.name, recipe.stage)
