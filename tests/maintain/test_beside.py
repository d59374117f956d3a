"""`maintain` again and again while `curate`, `embed` and `publish` run: no row lost, none there twice."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.maintain.config import MaintainConfig
from pipelines.maintain.run import maintain
from pipelines.progress import Silent
from tests.maintain.beside import BESIDE, Play, Step
from tests.maintain.schedule import draw
from tests.maintain.worker import Worker

_INLINE: list[tuple[str, Mapping[str, Any]]] = [("embed-inline", {}), ("publish", {})]

pytestmark = pytest.mark.usefixtures("spark")


def maintained(lake: Lake, asked: Mapping[str, Any]) -> None:
    maintain(lake, MaintainConfig(**asked), SparkConfig(), Silent())


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Mapping[str, Step]]:
    """`curate`, `embed` and `publish` in processes of their own; `maintain` on the tests' own Spark."""
    with ExitStack() as stack:
        names = ["curate", "embed-inline", "publish"]
        made = {name: stack.enter_context(Worker(name, tmp_path / f"{name}.log")) for name in names}
        yield {**made, "maintain": maintained}


def test_a_seed_gives_the_same_schedule_and_seeds_differ() -> None:
    for seed in range(40):
        assert draw(seed) == draw(seed)
    assert {draw(seed).maintain["expire_days"] for seed in range(40)} == {0, 1}
    assert any(step.deletes for seed in range(5) for step in draw(seed).steps)


@pytest.mark.slow
def test_beside_curate_embed_and_publish_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, workers: Mapping[str, Step]
) -> None:
    config = LakeConfig(dir=tmp_path / "lake", buckets=2)
    schedule = draw(1, steps=2, documents=15)
    play = Play(schedule, Lake.open(config), tmp_path, workers, _INLINE, rounds=2)
    assert play.run() == []
    assert play.steps["maintain"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_beside_curate_embed_on_ray_and_publish_on_s3(
    tmp_path: Path, s3_config: LakeConfig, seed: int
) -> None:
    with ExitStack() as stack:
        names = ["curate", "maintain", *(name for name, _ in BESIDE)]
        jobs = {name: stack.enter_context(Worker(name, tmp_path / f"{name}.log")) for name in names}
        assert Play(draw(seed), Lake.open(s3_config), tmp_path, jobs).run() == []
