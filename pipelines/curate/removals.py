"""Which documents a run is told to remove."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.curate.config import ColumnsConfig, CurateConfig
from pipelines.curate.read.discover import discover, filesystem, split_files
from pipelines.curate.read.readers import FileFault, read_split
from pipelines.curate.values import encodes
from pipelines.errors import InputError
from pipelines.lake import Lake


@dataclass(frozen=True)
class Removals:
    """What a run removes beside what it brings.

    Attributes:
        deletes: Files or folders with the ids of documents to delete: a text file with one on each line, or
            the id column of any other format. A document that is in the input too is deleted nevertheless.
        full: The input is all there is of its sources: their documents that are not in it are deleted.
        allow_empty: With `full`, an input that holds no document is meant so.
    """

    deletes: tuple[str, ...] = ()
    full: bool = False
    allow_empty: bool = False


NOTHING_REMOVED = Removals()


def deleted_ids(locations: Sequence[str], config: CurateConfig, lake: Lake) -> list[str]:
    """The ids in files of deletes, without repetitions and without what no document's id can be.

    Raises:
        InputError: A file is missing or cannot be read to its end: half a list of deletes is none.
    """
    ids: dict[str, None] = {}
    for location in locations:
        ids |= dict.fromkeys(_ids(location, config, lake))
    return [one for one in ids if encodes(one)]


def _ids(location: str, config: CurateConfig, lake: Lake) -> Iterator[str]:
    fs, _ = filesystem(location, lake.config)
    # Of a delete only the id is read.
    columns = ColumnsConfig.model_construct(
        id=config.columns.id, text=config.columns.id, source=None, arrival=None, metadata=()
    )
    for group in split_files(discover(location, "auto", None, lake.config), config.split_bytes):
        for split in group:
            for row in read_split(fs, split, columns):
                if isinstance(row, FileFault) or row.fault:
                    reason, detail = (
                        (row.reason, row.detail) if isinstance(row, FileFault) else row.fault or ("", "")
                    )
                    raise InputError(
                        f"the deletes in {split.file.uri} cannot be read ({reason}: {detail})",
                        "Mend the file and run again: nothing was deleted",
                    )
                if split.file.format == "text":
                    lines = _text(row.text).splitlines()
                    yield from (line.strip() for line in lines if line.strip())
                elif row.id is None:
                    raise InputError(
                        f"a row of {split.file.uri} has no '{config.columns.id}'",
                        "Mend the file and run again: nothing was deleted",
                    )
                else:
                    yield _text(row.id)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
