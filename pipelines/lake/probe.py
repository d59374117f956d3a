"""Tries the lake's storage: a file written, read back and deleted."""

from uuid import uuid4

from pyiceberg.io import load_file_io

from pipelines.errors import CatalogError, StorageError
from pipelines.lake.faults import explained
from pipelines.lake.lake import Lake

_CONTENT = b"embedlake was here"


def probe_storage(lake: Lake) -> str:
    """Writes, reads and deletes a small file where the tables' files go.

    Returns:
        Where that is.

    Raises:
        StorageError: One of the three fails, or the bytes come back changed.
        CatalogError: The catalogue does not say where the tables are.
    """
    with explained(lake.config):
        if lake.exists("chunks"):
            table = lake.table("chunks")
            io, place = table.io, table.location()
        else:
            root = lake.config.warehouse_uri or lake.catalog.properties.get("warehouse", "")
            if "://" not in root:
                raise CatalogError(
                    "the catalogue does not say where its tables' files go",
                    "Set lake.warehouse, or curate first",
                )
            io = load_file_io(lake.catalog.properties, root)
            place = f"{root.rstrip('/')}/{lake.config.namespace}/chunks"
        # A catalogue's own object store may take data files and nothing else, and only below a table.
        place = f"{place}/data"
        path = f"{place}/embedlake-probe-{uuid4().hex}"
        with io.new_output(path).create() as stream:
            stream.write(_CONTENT)
        with io.new_input(path).open() as source:
            content = source.read()
        io.delete(path)
    if content != _CONTENT:
        raise StorageError(f"{place} gave back other bytes than were written")
    return place
