"""The process that Spark's Python workers are forked from (`spark.python.daemon.module`).

It differs from pyspark's own in things that together were most of a small run's time in Python:

- What the workers need is imported once, before they are forked, and not by each of them (1.4 s);
  frozen, for pyspark collects garbage after every task.
- pyspark has every worker forget its import caches before every task. The importers of zip files then read
  their directories again, those of pyspark.zip and of Spark's own jar among them: 0.1 to 0.2 s a task. These
  archives do not change while a worker lives; what a task brings with it has importers of its own.
"""

import gc
import zipimport


def _nothing(self: zipimport.zipimporter) -> None:
    """In place of reading the archive's directory again."""


if __name__ == "__main__":
    zipimport.zipimporter.invalidate_caches = _nothing  # type: ignore[method-assign] # see above
    from pyspark.daemon import manager

    import pipelines.curate.dedup.near
    import pipelines.curate.spark_ops  # noqa: F401 - for the workers

    gc.freeze()
    manager()  # type: ignore[no-untyped-call] # pyspark's own
