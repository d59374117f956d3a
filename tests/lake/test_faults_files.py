import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.errors import CatalogError, StorageError
from pipelines.lake import CatalogConfig, Lake, LakeConfig
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.faults import explained
from pipelines.lake.probe import probe_storage
from tests.disks import filled, small_disk
from tests.lake.samples import fault, keys_of, opened, rejects

RIGHTS = "Give this user the right to it, or name another folder"


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user without rights, where the tests run as root, whom no permission stops."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that others may enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_that_may_not_be_written(shared: Path) -> None:
    shared.chmod(0o555)
    with as_nobody(), fault(StorageError, f"Permission denied: '{shared}/lake'", RIGHTS):
        Lake.open(LakeConfig(dir=shared / "lake"))


def test_a_lake_that_may_be_read_and_not_written(shared: Path) -> None:
    lake = opened(LakeConfig(dir=shared))
    for path in [shared, *shared.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with as_nobody():
        assert Lake.open(lake.config).table("chunks").scan().count() == 0
        with fault(StorageError, "/warehouse/embedlake/chunks/", RIGHTS):
            lake.bind_tokenizer("a")
        with fault(StorageError, "/warehouse/embedlake/chunks/data", RIGHTS):
            probe_storage(lake)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with fault(StorageError, str(folder), "A file stands where a folder should"):
            Lake.open(LakeConfig(dir=folder))


@pytest.mark.parametrize("content", [b"a text file\n" * 100, b"", None])
def test_a_catalogue_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "catalog.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    if content == b"":  # which SQLite takes for a new one, and so do we
        assert opened(LakeConfig(dir=tmp_path)).exists("chunks")
        return
    with fault(CatalogError, f"{path} cannot be used", "that the file is a catalogue"):
        Lake.open(LakeConfig(dir=tmp_path))


def test_a_warehouse_that_was_removed(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    metadata = Path(lake.table("chunks").metadata_location.removeprefix("file://"))
    metadata.unlink()
    with fault(StorageError, str(metadata.parent), "Bring it back"):
        lake.table("chunks")


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    big = rejects([os.urandom(500).hex() for _ in range(1000)])
    with small_disk(tmp_path / "disk", "400k") as disk:
        lake = opened(LakeConfig(dir=disk, buckets=2))
        with fault(StorageError, "the disk is full", "what was committed is kept"), explained(lake.config):
            write_data_file(lake.table("rejects"), big, "big")
        with filled(disk), fault(StorageError, "the disk is full"):
            Lake.open(LakeConfig(dir=disk, namespace="another")).ensure_tables()
        assert lake.table("rejects").scan().count() == 0


def test_a_table_that_others_lock_is_told_apart_from_a_broken_one(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = Path(str(local_config.root)) / "catalog.db"
    catalog = CatalogConfig(uri=f"sqlite:///{file}?timeout=0")
    impatient = LakeConfig(warehouse=local_config.warehouse_uri, catalog=catalog)
    other = Lake.open(impatient)
    with sqlite3.connect(file) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with fault(CatalogError, "others keep the catalogue", "locked", "Run the same command again"):
            other.table("rejects")
    assert keys_of(lake) == []
