"""Near duplicates of few nodes, found by the driver alone: the same pairs, similarities and verdicts.

A daily run brings thousands of documents to a lake of millions. What Spark needs to plan and start some
thirty jobs is then most of the time; the arithmetic is less than a second.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.dedup.config import NearConfig
from pipelines.dedup.independent import first_independent_set
from pipelines.dedup.shingles import offsets_of
from pipelines.dedup.verify import similarities_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# What the driver takes on of `driver_nodes`: bounds chosen by
# estimate (100 bytes a pair, 20 a character at the peak), not yet measured.
DRIVER_PAIRS = 2_000_000
DRIVER_CHARS = 32 << 20


@dataclass(frozen=True)
class Nodes:
    """Nodes in the order of priority.

    Attributes:
        hashes: Their text_hash.
        doc_ids: Of each node's first document.
        chars: Length of each text.
        bands: Lists of band keys; null where a text has no shingles.
        is_open: Whether a node is to be judged.
        is_kept: Whether one that is not open is kept.
    """

    hashes: pa.Array
    doc_ids: pa.Array
    chars: Ints
    bands: pa.Array
    is_open: Bools
    is_kept: Bools

    @classmethod
    def of(cls, few: pa.Table, standing: pa.Table | None) -> "Nodes":
        """The open nodes and those beside them.

        Args:
            few: text_hash, place and bands of the open ones.
            standing: The same of the others, and `is_kept`.
        """
        nothing = pa.array(np.zeros(few.num_rows, np.bool_))
        opened = pa.array(np.ones(few.num_rows, np.bool_))
        rows = few.append_column("is_kept", nothing).append_column("is_open", opened)
        if standing is not None:
            closed = pa.array(np.zeros(standing.num_rows, np.bool_))
            standing = standing.append_column("is_open", closed).select(rows.column_names)
            rows = pa.concat_tables([rows, standing], promote_options="permissive")
        rows = _in_order(rows)
        place = rows.column("place").combine_chunks()
        return cls(
            rows.column("text_hash").combine_chunks(),
            place.field("doc_id"),
            -np.asarray(place.field("shortness")).astype(np.int64),
            rows.column("bands").combine_chunks(),
            np.asarray(rows.column("is_open")),
            np.asarray(rows.column("is_kept")),
        )


@dataclass(frozen=True)
class Judged:
    """Verdicts, as `pipelines.dedup.near.Verdicts` has them.

    Attributes:
        keepers: text_hash, keeper and similarity of the open nodes that are removed.
        pulled: text_hash and neighbour.
    """

    keepers: pa.Table
    pulled: pa.Table


def distinct_nodes(documents: pa.Table) -> pa.Table:
    """Each text once, with the first of its places."""
    rows = _in_order(documents)
    codes = rows.column("text_hash").combine_chunks().dictionary_encode().indices
    _, first = np.unique(np.asarray(codes), return_index=True)
    return rows.take(pa.array(np.sort(first)))


def judge_nodes(nodes: Nodes, fetch: Callable[[pa.Array], pa.Table], config: NearConfig) -> Judged | None:
    """Judges the open nodes; None where that is too much for one process.

    Args:
        nodes: The open ones and those that share a bucket with one.
        fetch: Gives text_hash and text of the given text_hashes, each at least once.
        config: Of near dedup.
    """
    pairs = node_pairs(nodes.bands, nodes.is_open, config, DRIVER_PAIRS)
    if pairs is None:
        return None
    first, second = pairs
    involved = np.unique(np.concatenate(pairs))
    if nodes.chars[involved].sum() > DRIVER_CHARS:
        return None
    hashes = nodes.hashes.take(pa.array(involved))
    similarity = np.empty(0)
    if len(involved):
        ends = (np.searchsorted(involved, first), np.searchsorted(involved, second))
        texts = fetch(hashes)
        place = pc.index_in(hashes, texts.column("text_hash").combine_chunks())
        text = texts.column("text").combine_chunks().take(place)
        similarity = similarities_of(text, *ends, config.shingle_words)
    is_edge = similarity >= config.threshold
    return _verdicts(nodes, first[is_edge], second[is_edge], similarity[is_edge])


def node_pairs(bands: pa.Array, is_open: Bools, config: NearConfig, most: int) -> tuple[Ints, Ints] | None:
    """The pairs that `dedup.candidates.candidate_pairs` gives, as places; None if over `most`.

    Args:
        bands: Lists of keys, in the order of priority; null for a node without any.
        is_open: Pairs of two nodes that are both not open are left out.
        config: Bounds of a bucket.
        most: Pairs, counted once for each bucket that a pair shares.
    """
    lengths = np.asarray(pc.fill_null(pc.list_value_length(bands), 0)).astype(np.int64)
    owner = np.repeat(np.arange(len(bands), dtype=np.int64), lengths)
    keys = np.asarray(bands.flatten())
    order = np.argsort(keys, kind="stable")
    keys, owner = keys[order], owner[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else keys[:0]
    sizes = np.diff(np.append(begins, len(keys)))
    bucket = np.repeat(begins, sizes)
    number = np.arange(len(keys), dtype=np.int64) - bucket
    # A node is compared with those before it in the bucket, or with the leaders of a giant one.
    partners = np.where(number < config.bucket_whole, number, config.bucket_leaders)
    if int(partners.sum()) > most:
        return None
    starts = offsets_of(partners)[:-1]
    within = np.arange(int(partners.sum()), dtype=np.int64) - np.repeat(starts, partners)
    first = owner[np.repeat(bucket, partners) + within]
    second = np.repeat(owner, partners)
    wanted = is_open[first] | is_open[second]
    both = np.unique(first[wanted] * len(bands) + second[wanted])
    return both // max(len(bands), 1), both % max(len(bands), 1)


def _in_order(rows: pa.Table) -> pa.Table:
    """Rows in the order of their `place`; the strings' order is that of their bytes, as it is Spark's."""
    place = rows.column("place").combine_chunks()
    fields = pa.table(place.flatten(), names=place.type.names)
    return rows.take(pc.sort_indices(fields, [(name, "ascending") for name in fields.column_names]))


def _verdicts(nodes: Nodes, first: Ints, second: Ints, similarity: npt.NDArray[np.float64]) -> Judged:
    first_open, second_open = nodes.is_open[first], nodes.is_open[second]
    by_standing = ~first_open & nodes.is_kept[first] & second_open
    is_removed = np.zeros(len(nodes.hashes), np.bool_)
    is_removed[second[by_standing]] = True
    between = first_open & second_open
    undecided = between & ~is_removed[first] & ~is_removed[second]
    kept = first_independent_set(len(nodes.hashes), first[undecided], second[undecided])
    keeping = by_standing | (between & kept[first] & ~is_removed[first])
    # Pairs come in the order of the first node, so that each node's first pair names its first keeper.
    order = np.argsort(first[keeping], kind="stable")
    earlier, later = first[keeping][order], second[keeping][order]
    removed, at = np.unique(later, return_index=True)
    keepers = {
        "text_hash": nodes.hashes.take(pa.array(removed)),
        "keeper": nodes.doc_ids.take(pa.array(earlier[at])),
        "similarity": pa.array(similarity[keeping][order][at], pa.float64()),
    }
    pulls = first_open & ~second_open
    pulled = {
        "text_hash": nodes.hashes.take(pa.array(first[pulls])),
        "neighbour": nodes.hashes.take(pa.array(second[pulls])),
    }
    return Judged(pa.table(keepers), pa.table(pulled))
