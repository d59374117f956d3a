"""Tries the lake's storage: a file written, read back and deleted."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pyiceberg.io import FileIO, load_file_io

from pipelines.errors import StorageError
from pipelines.lake.faults import explained
from pipelines.lake.lake import Lake
from pipelines.lake.tables import BY_NAME

_CONTENT = b"embedlake was here"


def probe_storage(lake: Lake) -> str:
    """Writes, reads and deletes a small file where a table's files go.

    Returns:
        Where that is.

    Raises:
        StorageError: One of the three fails, or the bytes come back changed.
        CatalogError: The catalogue does not answer, or lets no table be made.
    """
    with explained(lake.config), _folder(lake) as (io, folder):
        path = f"{folder}/embedlake-probe-{uuid4().hex}"
        with io.new_output(path).create() as stream:
            stream.write(_CONTENT)
        with io.new_input(path).open() as source:
            content = source.read()
        io.delete(path)
    if content != _CONTENT:
        raise StorageError(f"{folder} gave back other bytes than were written")
    return folder


@contextmanager
def _folder(lake: Lake) -> Iterator[tuple[FileIO, str]]:
    """A folder of data files: that of `chunks`, there or to be, or that of a table made for the moment."""
    root = lake.config.warehouse_uri
    if lake.exists("chunks"):
        table = lake.table("chunks")
        yield table.io, f"{table.location()}/data"
    elif lake.config.catalog.type == "sql" and root:
        yield load_file_io(lake.catalog.properties, root), f"{root}/{lake.config.namespace}/chunks/data"
    else:
        # A catalogue service says itself where a table goes, and may let nothing else be written there.
        identifier = lake.identifier(f"embedlake_probe_{uuid4().hex[:12]}")
        lake.ensure_namespace()
        table = lake.catalog.create_table(identifier, BY_NAME["documents"].schema)
        try:
            yield table.io, f"{table.location()}/data"
        finally:
            lake.catalog.drop_table(identifier)
