"""What becomes of each document: kept, or a duplicate, exact or near, of a kept one.

A node is a distinct text; its place in the order is that of its first document. Only what may have changed
is judged: nodes that are new, that got or lost their first document, and then whatever these decide. With
documents that come in the order of their arrival that is the new ones alone.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.near import NearJudge, Verdicts
from pipelines.dedup.spark_sql import DUPLICATE, EXACT, KEPT, NEAR, among, cut, not_among

DOCUMENT = ("doc_id", "text_hash", "place", "bands", "outcome", "kept_doc_id", "kind", "similarity")


@dataclass(frozen=True)
class Corpus:
    """The documents before and after a run's changes, by keys.

    Attributes:
        before: The ledger's documents, with the columns of `DOCUMENT`.
        new: The new versions, the same columns; their `outcome` is null.
        leaving: doc_id of the ledger's documents that go or are replaced; None where there are none.
        nearby: Rows of `before`, all those with a text or a MinHash band of a new version among them; None
            where they are not known.
        is_first: Whether `before` is empty.
    """

    before: DataFrame
    new: DataFrame
    leaving: DataFrame | None
    nearby: DataFrame | None
    is_first: bool

    def touched(self) -> DataFrame:
        """text_hash of the new versions and of the documents that go or are replaced."""
        hashes = self.new.select("text_hash")
        if self.leaving is None:
            return hashes.distinct()
        return hashes.unionByName(among(self.before, self.leaving, "doc_id").select("text_hash")).distinct()

    def beside_touched(self) -> DataFrame | None:
        """`nearby`, where it answers for all touched texts: old versions have others than the new ones."""
        return self.nearby if self.leaving is None else None

    def rows_of(self, hashes: DataFrame, ledger: DataFrame) -> "Rows":
        """The documents of the texts, held.

        Args:
            hashes: text_hash.
            ledger: Rows of `before`, all those of the texts among them.
        """
        before = cut(among(ledger, hashes, "text_hash"))
        new = among(self.new, hashes, "text_hash")
        return Rows(before, cut(self.staying(before).unionByName(new)))

    def staying(self, documents: DataFrame) -> DataFrame:
        """Those of the ledger's documents that neither go nor are replaced."""
        return documents if self.leaving is None else not_among(documents, self.leaving, "doc_id")


@dataclass(frozen=True)
class Rows:
    """All documents of some texts, before and after a run's changes."""

    before: DataFrame
    after: DataFrame

    def and_of(self, hashes: DataFrame, corpus: Corpus) -> "Rows":
        """With those of further texts."""
        more = corpus.rows_of(hashes, corpus.before)
        return Rows(self.before.unionByName(more.before), self.after.unionByName(more.after))


def judge(corpus: Corpus, near: NearJudge) -> DataFrame:
    """The documents whose outcome is new or another.

    Returns:
        doc_id, outcome, kept_doc_id, kind, similarity.
    """
    if corpus.is_first:
        return _outcomes(corpus.new, near.judge(corpus.new, None).nodes)
    touched = cut(corpus.touched())
    beside = corpus.beside_touched()
    rows = corpus.rows_of(touched, corpus.before if beside is None else beside)
    change = cut(_change(rows, touched))
    moved = change.where("place is not null and not is_same").select("text_hash")
    lost = change.where("was_kept and not is_same").selectExpr("old_place.doc_id")
    pointing = _pointing(corpus, lost)
    open_hashes = cut((moved if pointing is None else moved.unionByName(pointing)).distinct())
    also = cut(not_among(open_hashes, touched, "text_hash"))
    # A text whose first document is the same as before, in another version perhaps, stands as it did.
    standing = corpus.before
    if corpus.leaving is not None:
        standing = not_among(standing, cut(change.where("place is null").select("text_hash")), "text_hash")
    while True:
        if not also.isEmpty():
            rows, beside = rows.and_of(also, corpus), None
        opened = among(rows.after, open_hashes, "text_hash")
        verdicts = near.judge(opened, standing if beside is None else beside)
        also = cut(_also(corpus, rows, verdicts, open_hashes))
        if also.isEmpty():
            break
        open_hashes = cut(open_hashes.unionByName(also))
        also = cut(not_among(also, touched, "text_hash"))
    settled = _firsts(rows.before, not_among(touched, open_hashes, "text_hash"))
    settled = settled.select("text_hash", "place", "keeper", "similarity")
    return _outcomes(rows.after, settled.unionByName(verdicts.nodes))


def _firsts(documents: DataFrame, hashes: DataFrame) -> DataFrame:
    """Of each of the texts its first document's place, and what became of that document."""
    rows = among(documents, hashes, "text_hash").groupBy("text_hash")
    return rows.agg(
        F.min("place").alias("place"),
        (F.min_by("outcome", "place") == KEPT).alias("is_kept"),
        F.min_by("kept_doc_id", "place").alias("keeper"),
        F.min_by("similarity", "place").alias("similarity"),
    )


def _change(rows: Rows, touched: DataFrame) -> DataFrame:
    """Of each touched text its place before and now, and whether they are the same."""
    before = _firsts(rows.before, touched).selectExpr("text_hash", "place old_place", "is_kept was_kept")
    now = _firsts(rows.after, touched).select("text_hash", "place")
    is_same = F.col("place").eqNullSafe(F.col("old_place"))
    return now.join(before, "text_hash", "full_outer").withColumn("is_same", is_same)


def _pointing(corpus: Corpus, keepers: DataFrame) -> DataFrame | None:
    """text_hash of the documents that stay and were removed for one of `keepers` (column `doc_id`).

    None where there are no keepers, which spares a scan.
    """
    if keepers.isEmpty():
        return None
    return among(corpus.staying(corpus.before), keepers, "kept_doc_id", "doc_id").select("text_hash")


def _also(corpus: Corpus, rows: Rows, verdicts: Verdicts, open_hashes: DataFrame) -> DataFrame:
    """text_hash of further nodes that the verdicts reach.

    Those that a newly kept one may remove, and those that were removed for one that is no longer kept.
    """
    old = _firsts(rows.before, open_hashes).selectExpr("text_hash", "place old_place", "is_kept was_kept")
    now = verdicts.nodes.join(old, "text_hash", "left")
    is_kept, was_kept = F.col("keeper").isNull(), F.coalesce("was_kept", F.lit(False))
    is_same = F.col("place").eqNullSafe(F.col("old_place"))
    newly = now.where(is_kept & ~(was_kept & is_same))
    lost = now.where(was_kept & ~(is_kept & is_same)).selectExpr("old_place.doc_id")
    pulled = among(verdicts.pulled, newly, "text_hash").select(F.col("neighbour").alias("text_hash"))
    pointing = _pointing(corpus, lost)
    reached = pulled if pointing is None else pointing.unionByName(pulled)
    return not_among(reached.distinct(), open_hashes, "text_hash")


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
