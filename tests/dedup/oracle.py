"""What curation should make of a corpus, by its definition in plain Python; and texts to try it on."""

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from pipelines.curate.config import CurateConfig
from pipelines.dedup.shingles import shingle
from pipelines.dedup.signing import signer
from pipelines.text import text_hash

_WORDS = [f"w{number}" for number in range(400)]


@dataclass(frozen=True)
class Doc:
    """A document of the input."""

    doc_id: str
    text: str
    source: str
    arrived_at: str

    def row(self) -> dict[str, str]:
        """As JSON."""
        return dict(vars(self))

    def place(self, priority: Sequence[str]) -> tuple[int, str, int, str]:
        """Its place in the order of priority."""
        rank = priority.index(self.source) if self.source in priority else len(priority)
        return rank, self.arrived_at, -len(self.text), self.doc_id


def day(number: int) -> str:
    """A time of arrival."""
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)).isoformat()


def families(draw: random.Random, count: int, first_day: int, days: int, prefix: str) -> Iterator[Doc]:
    """Documents in families: copies, copies with some words changed, copies of those, and strangers."""
    known: list[list[str]] = [draw_words(random.Random(0), 60) for _ in range(1)]
    for number in range(count):
        kind = draw.random()
        if kind < 0.3 or not known:
            words = draw_words(draw, draw.choice([3, 20, 60, 120]))
        else:
            words = list(draw.choice(known))
            for _ in range(draw.choice([0, 0, 1, 1, 2, 4])):
                words[draw.randrange(len(words))] = draw.choice(_WORDS)
        known.append(words)
        yield Doc(
            f"{prefix}{number}", " ".join(words), draw.choice(["web", "books", "news"]),
            day(first_day + draw.randrange(days)),
        )  # fmt: skip


def draw_words(draw: random.Random, count: int) -> list[str]:
    """Words at random."""
    return [draw.choice(_WORDS) for _ in range(count)]


def outcomes(
    docs: Sequence[Doc], config: CurateConfig
) -> dict[str, tuple[str, str | None, str | None, float | None]]:
    """doc_id -> outcome, kept_doc_id, kind, similarity, for buckets below `bucket_whole`."""
    ordered = sorted(docs, key=lambda doc: doc.place(config.source_priority))
    firsts: dict[str, Doc] = {}
    for doc in ordered:
        firsts.setdefault(text_hash(doc.text), doc)
    nodes = list(firsts.values())
    edges = _edges(nodes, config)
    kept: list[int] = []
    keeper: dict[int, tuple[str, float]] = {}
    for at in range(len(nodes)):
        found = next(((other, edges[other, at]) for other in kept if (other, at) in edges), None)
        if found is None:
            kept.append(at)
        else:
            keeper[at] = (nodes[found[0]].doc_id, found[1])
    place = {text_hash(node.text): at for at, node in enumerate(nodes)}
    result: dict[str, tuple[str, str | None, str | None, float | None]] = {}
    for doc in docs:
        at = place[text_hash(doc.text)]
        if at in keeper:
            result[doc.doc_id] = ("duplicate", keeper[at][0], "near", keeper[at][1])
        elif nodes[at] is doc:
            result[doc.doc_id] = ("kept", None, None, None)
        else:
            result[doc.doc_id] = ("duplicate", nodes[at].doc_id, "exact", 1.0)
    return result


def _edges(nodes: Sequence[Doc], config: CurateConfig) -> dict[tuple[int, int], float]:
    """Pairs that share a band and are similar enough, earlier first."""
    sign = signer(config.near)
    if sign is None:
        return {}
    texts = pa.array([node.text for node in nodes])
    buckets: dict[int, list[int]] = defaultdict(list)
    for at, keys in enumerate(sign(texts).to_pylist()):
        for key in keys or ():
            buckets[key].append(at)
    hashes = shingle(texts, config.near.shingle_words)
    bounds = itertools.pairwise(hashes.offsets.tolist())
    sets = [set(hashes.hashes[a:b].tolist()) for a, b in bounds]
    edges: dict[tuple[int, int], float] = {}
    for members in buckets.values():
        for one, two in itertools.combinations(members, 2):
            similarity = len(sets[one] & sets[two]) / len(sets[one] | sets[two])
            if similarity >= config.near.threshold:
                edges[one, two] = similarity
    return edges
