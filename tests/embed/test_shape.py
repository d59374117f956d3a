"""How many encoders, and that Ray can always run a reader and a writer beside them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.embed.config import EmbedConfig
from pipelines.embed.session import local_gpus
from pipelines.embed.shape import IO_CPUS, Resources, shape
from pipelines.errors import EnvironmentFault


@given(
    node_cpus=st.integers(1, 64),
    nodes=st.integers(1, 8),
    actors=st.one_of(st.none(), st.integers(1, 32)),
    threads=st.one_of(st.none(), st.integers(1, 64)),
)
def test_encoders_leave_room_for_reading_and_writing(
    node_cpus: int, nodes: int, actors: int | None, threads: int | None
) -> None:
    config = EmbedConfig(actors=actors, threads=threads)
    made = shape(config, "cpu", Resources(float(node_cpus * nodes), 0.0, float(node_cpus)))
    on_one_node = -(-made.actors // nodes)
    assert made.actors == (actors or nodes * min(node_cpus, 8))
    assert made.gpus == 0
    assert made.threads is not None
    assert made.threads >= 1
    assert made.cpus <= made.threads
    assert made.readers == made.writers
    assert 4 * (made.readers - 1) < made.actors <= 4 * made.readers
    assert on_one_node * made.cpus + 2 * IO_CPUS <= node_cpus
    assert made.cpus < 1 or made.cpus == int(made.cpus)


@pytest.mark.parametrize(
    ("gpus", "share", "actors", "expected"),
    [(8, 1.0, None, 8), (1, 0.5, None, 2), (8, 1.0, 3, 3), (0, 1.0, 4, 4)],
)
def test_one_encoder_a_gpu(gpus: int, share: float, actors: int | None, expected: int) -> None:
    config = EmbedConfig(actors=actors, gpus_per_actor=share)
    made = shape(config, "cuda", Resources(16.0, float(gpus), 16.0))
    assert (made.actors, made.gpus, made.device) == (expected, share, "cuda")
    assert made.readers == 2 * expected


def test_gpus_that_nobody_has_are_refused() -> None:
    with pytest.raises(EnvironmentFault, match=r"Ray has 0.*embed\.actors"):
        shape(EmbedConfig(), "cuda", Resources(4.0, 0.0, 4.0))


def test_gpus_are_found_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local_gpus(tmp_path) == []
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).touch()
    assert local_gpus(tmp_path) == ["nvidia0", "nvidia1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_gpus(tmp_path) == []
