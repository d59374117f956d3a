"""Who works where: encoders where there is what they need, reading and writing on other nodes if any."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cluster.nodes import Device, Node, alive
from pipelines.cluster.session import local_gpus
from pipelines.embed.config import EmbedConfig
from pipelines.embed.engine.nodes import Placement, place


def _node(id: str, cpus: float = 0.0, gpus: float = 0.0, **labels: str) -> Node:
    return Node(id, cpus, gpus, labels)


_cluster = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0]),
        st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 8.0]),
        st.sampled_from([{}, {"kind": "h100"}, {"kind": "l4"}]),
    ),
    max_size=8,
).map(lambda found: [Node(f"n{at}", *parts) for at, parts in enumerate(found)])
_configs = st.builds(
    EmbedConfig,
    actors=st.none() | st.integers(1, 40),
    threads=st.none() | st.integers(1, 64),
    gpus_per_actor=st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0]),
    label_selector=st.sampled_from([None, {"kind": "h100"}, {"kind": "!l4"}]),
)
_devices = st.sampled_from(["cpu", "cuda"])


def _room(node: Node, config: EmbedConfig, device: Device) -> int:
    """Encoders that a node could have, counted up one by one."""
    room = 0
    if not node.matches(config.label_selector):
        return 0
    while True:
        more = room + 1
        if device == "cuda" and more * config.gpus_per_actor > node.gpus + 1e-6:
            return room
        if device == "cpu" and (more > 8 or more * min(config.threads or 1, node.cpus) > node.cpus):
            return room
        if device == "cpu" and node.cpus < 1:
            return room
        room = more


@given(_cluster, _configs, _devices)
def test_encoders_fit_the_nodes_that_they_are_on(
    nodes: list[Node], config: EmbedConfig, device: Device
) -> None:
    placement = place(nodes, config, device)
    room = {node.id: _room(node, config, device) for node in nodes}
    given_to = {node.id: 0 for node in nodes}
    given_to |= {id: seat.encoders for id, seat in placement.encoders.items()}
    wanted = sum(room.values())
    assert placement.actors == (wanted if config.actors is None else min(config.actors, wanted))
    assert all(given_to[id] <= room[id] for id in given_to)
    # A cap is spread: no node has two more than another that could have one more.
    below = [given_to[id] for id in given_to if given_to[id] < room[id]]
    assert max(given_to.values(), default=0) <= min(below, default=100) + 1
    for id, seat in placement.encoders.items():
        node = next(node for node in nodes if node.id == id)
        assert seat.encoders >= 1
        assert seat.cpus * seat.encoders <= node.cpus
        assert seat.gpus * seat.encoders <= node.gpus + 1e-6
        assert (seat.gpus > 0) == (device == "cuda")
        assert (seat.cpus > 0) == (device == "cpu")
        if config.threads is not None:
            assert seat.threads == config.threads
        elif device == "cpu":
            assert seat.threads == node.cpus // seat.encoders


@given(_cluster, _configs, _devices)
def test_helpers_are_on_other_nodes_with_cpus_if_there_are_any(
    nodes: list[Node], config: EmbedConfig, device: Device
) -> None:
    placement = place(nodes, config, device)
    able = {node.id for node in nodes if _room(node, config, device)}
    with_cpus = {node.id for node in nodes if node.cpus > 0}
    if not placement.encoders:
        assert placement == Placement({}, {})
        return
    assert placement.helpers
    assert min(placement.helpers.values()) >= 1
    homes = set(placement.helpers)
    if with_cpus - able:
        assert homes == with_cpus - able
    else:
        assert homes == (with_cpus & set(placement.encoders) or with_cpus or set(placement.encoders))


def test_a_head_without_cpus_gets_nothing_beside_gpu_nodes_and_a_cpu_node() -> None:
    nodes = [_node("head"), _node("cpu", 16), _node("gpu1", 8, 4), _node("gpu2", 8, 4)]
    placement = place(nodes, EmbedConfig(), "cuda")
    assert {id: seat.encoders for id, seat in placement.encoders.items()} == {"gpu1": 4, "gpu2": 4}
    assert placement.helpers == {"cpu": 8}
    assert place(nodes, EmbedConfig(actors=3), "cuda").helpers == {"cpu": 3}


def test_with_gpu_nodes_alone_each_reads_and_writes_for_itself() -> None:
    placement = place([_node("head"), _node("g1", 8, 2), _node("g2", 8, 2)], EmbedConfig(), "cuda")
    assert placement.helpers == {"g1": 2, "g2": 2}
    capped = place([_node("g1", 8, 2), _node("g2", 8, 2)], EmbedConfig(actors=1), "cuda")
    assert capped.helpers == {"g1": 1}


def test_gpu_nodes_without_cpus_read_and_write_where_nobody_else_can() -> None:
    nodes = [_node("head"), _node("gpu", 0, 2)]
    assert place(nodes, EmbedConfig(), "cuda").helpers == {"gpu": 1}
    assert place([*nodes, _node("cpu", 1)], EmbedConfig(), "cuda").helpers == {"cpu": 1}


@pytest.mark.parametrize(
    ("cpus", "actors", "threads", "expected"),
    [
        (2, None, None, (2, 1.0, 1)),
        (64, None, None, (8, 8.0, 8)),
        (64, 2, None, (2, 32.0, 32)),
        (4, None, 2, (2, 2.0, 2)),
        (4, None, 8, (1, 4.0, 8)),
        (1, 5, None, (1, 1.0, 1)),
    ],
)
def test_cpu_encoders_share_the_cores(
    cpus: float, actors: int | None, threads: int | None, expected: tuple[int, float, int]
) -> None:
    (seat,) = place([_node("n", cpus)], EmbedConfig(actors=actors, threads=threads), "cpu").encoders.values()
    assert (seat.encoders, seat.cpus, seat.threads) == expected
    assert seat.encoders * seat.cpus <= cpus


@pytest.mark.parametrize(
    ("gpus", "share", "actors", "expected"),
    [
        (8, 1.0, None, 8),
        (1, 0.5, None, 2),
        (1, 0.1, None, 10),
        (8, 1.0, 3, 3),
        (8, 2.0, None, 4),
        (1, 2.0, None, 0),
    ],
)
def test_one_encoder_a_gpu_or_as_many_as_share_it(
    gpus: int, share: float, actors: int | None, expected: int
) -> None:
    config = EmbedConfig(actors=actors, gpus_per_actor=share)
    placement = place([_node("n", 16, gpus)], config, "cuda")
    assert placement.actors == expected
    assert all((seat.gpus, seat.threads) == (share, None) for seat in placement.encoders.values())


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        (None, {}, True),
        ({}, {"a": "1"}, True),
        ({"a": "1"}, {"a": "1"}, True),
        ({"a": "1"}, {"a": "2"}, False),
        ({"a": "1"}, {}, False),
        ({"a": "!1"}, {"a": "1"}, False),
        ({"a": "!1"}, {"a": "2"}, True),
        ({"a": "!1"}, {}, True),
        ({"a": "in(1, 2)"}, {"a": "2"}, True),
        ({"a": "in(1,2)"}, {"a": "3"}, False),
        ({"a": "in(1,2)"}, {}, False),
        ({"a": "!in(1, 2)"}, {"a": "2"}, False),
        ({"a": "!in(1, 2)"}, {"a": "3"}, True),
        ({"a": "!in(1, 2)"}, {}, True),
        ({"a": "1", "b": "2"}, {"a": "1"}, False),
        ({"a": "1", "b": "2"}, {"b": "2", "a": "1", "c": "3"}, True),
    ],
)
def test_labels_match_as_ray_matches_them(
    selector: Mapping[str, str] | None, labels: Mapping[str, str], expected: bool
) -> None:
    assert Node("n", 1, 0, labels).matches(selector) is expected


def test_dead_nodes_are_left_out_and_the_order_is_fixed() -> None:
    told = [
        {"NodeID": "b", "Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}, "Labels": {"k": "v"}},
        {"NodeID": "c", "Alive": False, "Resources": {}},
        {"NodeID": "a", "Alive": True, "Resources": {}, "Labels": None},
    ]
    assert alive(told) == [Node("a", 0.0, 0.0, {}), Node("b", 2.0, 1.0, {"k": "v"})]


def test_gpus_are_found_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local_gpus(tmp_path) == []
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).touch()
    assert local_gpus(tmp_path) == ["nvidia0", "nvidia1"]
    for hidden in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert local_gpus(tmp_path) == []
