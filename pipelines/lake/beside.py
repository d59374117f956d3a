"""The lake beside a lake: texts of pairs as `chunks` of their own, so that `embed` embeds them too."""

from pipelines.lake.lake import Lake

_SUFFIX = "_pairs"


def pairs_lake(lake: Lake) -> Lake:
    """The tables of the namespace `<namespace>_pairs` of the same catalogue."""
    # A window of pairs is a partition: cut into buckets its files would be small.
    namespace = f"{lake.config.namespace}{_SUFFIX}"
    return Lake(lake.config.model_copy(update={"namespace": namespace, "buckets": 1}), lake.catalog)
