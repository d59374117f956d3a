"""What becomes of each document: kept, or a duplicate, exact or near, of a kept one.

A node is a distinct text; its place in the order is that of its first document. Only what may have changed
is judged: nodes that are new, that got or lost their first document, and then whatever these decide. With
documents that come in the order of their arrival that is the new ones alone.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.near import NearJudge, Verdicts
from pipelines.curate.spark_sql import DUPLICATE, EXACT, KEPT, NEAR, among, cut, not_among

DOCUMENT = ("doc_id", "text_hash", "place", "bands", "outcome", "kept_doc_id", "kind", "similarity")


@dataclass(frozen=True)
class Corpus:
    """The documents before and after a run's changes, by keys.

    Attributes:
        before: The ledger's documents, with the columns of `DOCUMENT`.
        after: The same without those that go or are replaced, and with the new versions, whose `outcome`
            is null.
        touched: text_hash of the new versions and of the documents that go or are replaced.
        is_first: Whether `before` is empty.
    """

    before: DataFrame
    after: DataFrame
    touched: DataFrame
    is_first: bool


def judge(corpus: Corpus, near: NearJudge) -> DataFrame:
    """The documents whose outcome is new or another.

    Returns:
        doc_id, outcome, kept_doc_id, kind, similarity.
    """
    if corpus.is_first:
        return _outcomes(corpus.after, near.judge(cut(_nodes(corpus.after)), others=False).nodes)
    touched = cut(corpus.touched.distinct())
    change = cut(_change(corpus, touched))
    moved = change.where("place is not null and not is_same").select("text_hash")
    lost = change.where("was_kept and not is_same").selectExpr("old_place.doc_id")
    open_hashes = cut(moved.unionByName(_pointing(corpus, lost)).distinct())
    while True:
        nodes = cut(_nodes(among(corpus.after, open_hashes, "text_hash")))
        verdicts = near.judge(nodes, others=True)
        also = cut(_also(corpus, verdicts, open_hashes))
        if also.isEmpty():
            break
        open_hashes = cut(open_hashes.unionByName(also))
    settled = _firsts(corpus.before, not_among(touched, open_hashes, "text_hash"))
    standing = settled.select("text_hash", "place", "keeper", "similarity")
    return _outcomes(corpus.after, verdicts.nodes.unionByName(standing))


def _nodes(documents: DataFrame) -> DataFrame:
    return documents.groupBy("text_hash").agg(F.min("place").alias("place"), F.first("bands").alias("bands"))


def _firsts(documents: DataFrame, hashes: DataFrame) -> DataFrame:
    """Of each of the texts its first document's place, and what became of that document."""
    rows = among(documents, hashes, "text_hash").groupBy("text_hash")
    return rows.agg(
        F.min("place").alias("place"),
        (F.min_by("outcome", "place") == KEPT).alias("is_kept"),
        F.min_by("kept_doc_id", "place").alias("keeper"),
        F.min_by("similarity", "place").alias("similarity"),
    )


def _change(corpus: Corpus, touched: DataFrame) -> DataFrame:
    """Of each touched text its place before and now, and whether they are the same."""
    before = _firsts(corpus.before, touched).selectExpr("text_hash", "place old_place", "is_kept was_kept")
    now = _firsts(corpus.after, touched).select("text_hash", "place")
    is_same = F.col("place").eqNullSafe(F.col("old_place"))
    return now.join(before, "text_hash", "full_outer").withColumn("is_same", is_same)


def _pointing(corpus: Corpus, keepers: DataFrame) -> DataFrame:
    """text_hash of the documents that stay and were removed for one of `keepers` (column `doc_id`)."""
    return among(corpus.after, keepers, "kept_doc_id", "doc_id").select("text_hash")


def _also(corpus: Corpus, verdicts: Verdicts, open_hashes: DataFrame) -> DataFrame:
    """text_hash of further nodes that the verdicts reach.

    Those that a newly kept one may remove, and those that were removed for one that is no longer kept.
    """
    old = _firsts(corpus.before, open_hashes).selectExpr("text_hash", "place old_place", "is_kept was_kept")
    now = verdicts.nodes.join(old, "text_hash", "left")
    is_kept, was_kept = F.col("keeper").isNull(), F.coalesce("was_kept", F.lit(False))
    is_same = F.col("place").eqNullSafe(F.col("old_place"))
    newly = now.where(is_kept & ~(was_kept & is_same))
    lost = now.where(was_kept & ~(is_kept & is_same)).selectExpr("old_place.doc_id")
    pulled = among(verdicts.pulled, newly, "text_hash").select(F.col("neighbour").alias("text_hash"))
    reached = pulled.unionByName(_pointing(corpus, lost)).distinct()
    return not_among(reached, open_hashes, "text_hash")


def _outcomes(documents: DataFrame, nodes: DataFrame) -> DataFrame:
    """The outcome of every document of the nodes, where it is not what the ledger has."""
    names = ("outcome", "kept_doc_id", "kind", "similarity")
    old = [F.col(name).alias(f"old_{name}") for name in names]
    verdicts = nodes.select("text_hash", F.col("place.doc_id").alias("first_doc_id"), "keeper", "similarity")
    rows = documents.select("doc_id", "text_hash", *old).join(verdicts, "text_hash")
    is_removed = F.col("keeper").isNotNull()
    is_first = F.col("doc_id") == F.col("first_doc_id")
    values = (
        F.when(~is_removed & is_first, KEPT).otherwise(DUPLICATE),
        F.when(is_removed, F.col("keeper")).when(~is_first, F.col("first_doc_id")),
        F.when(is_removed, NEAR).when(~is_first, EXACT),
        F.when(is_removed, F.col("similarity")).when(~is_first, F.lit(1.0)),
    )
    changed = F.lit(False)
    for name, value in zip(names, values, strict=True):
        changed |= ~F.col(f"old_{name}").eqNullSafe(value)
    named = [value.alias(name) for name, value in zip(names, values, strict=True)]
    return rows.where(changed).select("doc_id", *named)
