"""The process that Spark's Python workers are forked from (`spark.python.daemon.module`).

It differs from pyspark's own in things that together were most of a small run's time in Python:

- What the workers need is imported once, before they are forked, and not by each of them (1.4 s);
  frozen, for pyspark collects garbage after every task.
- Spark puts its archives of pyspark before the installed one, though they hold the same, and what stands in
  an archive is compiled at every import.
- pyspark has every worker forget its import caches before every task. The importers of zip files then read
  their directories again, those of pyspark.zip and of Spark's own jar among them: 0.1 to 0.2 s a task. These
  archives do not change while a worker lives; what a task brings with it has importers of its own.
"""

import gc
import sys
import zipimport
from pathlib import Path


def _nothing(self: zipimport.zipimporter) -> None:
    """In place of reading the archive's directory again."""


def installed_first(path: list[str]) -> list[str]:
    """`sys.path` without Spark's archives, where they are those of the pyspark that is installed."""
    archives = [Path(entry) for entry in path if entry.endswith(".zip")]
    rest = [entry for entry in path if not entry.endswith(".zip")]
    homes = [Path(entry) / "pyspark" for entry in rest]
    own = {archive for archive in archives for home in homes if archive.is_relative_to(home)}
    return [entry for entry in path if Path(entry) not in own]


if __name__ == "__main__":
    sys.path[:] = installed_first(sys.path)
    zipimport.zipimporter.invalidate_caches = _nothing  # type: ignore[method-assign] # see above
    from pyspark.daemon import manager

    gc.freeze()
    manager()  # type: ignore[no-untyped-call] # pyspark's own
