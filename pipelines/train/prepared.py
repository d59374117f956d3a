"""Batches written to the lake: which there are, and whether all of them."""

from dataclasses import dataclass

PREPARED_PROPERTY = "embedlake.batches."  # + data fingerprint -> what there is, as JSON


@dataclass(frozen=True)
class Prepared:
    """A run's batches in the lake.

    Attributes:
        data: Fingerprint of what they were made from, and how.
        steps: Of the run.
        batch: Rows of each.
        shards: Parts that a batch's slots are stored in.
    """

    data: str
    steps: int
    batch: int
    shards: int
