"""The lake beside a lake: texts of pairs as `chunks` of their own, so that `embed` embeds them too."""

from dataclasses import dataclass

from pipelines.lake.lake import Lake

_SUFFIX = "_pairs"

QUERY, DOCUMENT = 0, 1  # `ordinal` of a pair's texts


@dataclass(frozen=True)
class Teacher:
    """The models that the texts of pairs were embedded by.

    Attributes:
        query: Key of the one for queries; another than the documents' where their prefixes differ.
        document: Key of the one for documents.
        dimension: Of both.
    """

    query: str
    document: str
    dimension: int


def pairs_lake(lake: Lake) -> Lake:
    """The tables of the namespace `<namespace>_pairs` of the same catalogue."""
    # A window of pairs is a partition: cut into buckets its files would be small.
    namespace = f"{lake.config.namespace}{_SUFFIX}"
    return Lake(lake.config.model_copy(update={"namespace": namespace, "buckets": 1}), lake.catalog)


def text_id(pair_id: str, ordinal: int) -> str:
    """The `chunk_id` of a pair's query or document."""
    return f"{pair_id}:{ordinal}"
