"""Tables in a folder: of Delta the newest version and nothing else; others are refused."""

import json
import shutil
import struct
import zlib
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from deltalake import DeltaTable, write_deltalake

from infra.local.seaweed import SeaweedServer
from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import discover, filesystem, split_files
from pipelines.curate.read.readers import FileFault, columns_of
from pipelines.errors import InputError
from pipelines.lake import LakeConfig
from tests.curate.test_readers import read, read_location


def rows(*ids: str, **columns: list[Any]) -> pa.Table:
    return pa.table({"doc_id": list(ids), "text": [f"text of {key}" for key in ids]} | columns)


def ids_of(folder: Path, columns: ColumnsConfig | None = None) -> list[str]:
    records, faults = read(folder, columns=columns or ColumnsConfig())
    assert not faults
    return sorted(record.id.decode() for _, record in records)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(InputError, match=words):
        discover(str(folder), "auto", None, LakeConfig(dir=folder / "lake"))


def entries(folder: Path) -> list[dict[str, Any]]:
    logs = sorted((folder / "_delta_log").glob("*.json"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def commit(folder: Path, *actions: dict[str, Any]) -> None:
    version = len(list((folder / "_delta_log").glob("*.json")))
    log = folder / "_delta_log" / f"{version:020}.json"
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))


def protocol(*features: str) -> dict[str, Any]:
    named = {"readerFeatures": list(features), "writerFeatures": list(features)}
    return {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7} | named}


def test_only_the_rows_of_the_newest_version_are_read(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a", "b"))
    write_deltalake(tmp_path, rows("c"), mode="append")
    assert ids_of(tmp_path) == ["a", "b", "c"]
    DeltaTable(tmp_path).delete("doc_id = 'a'")
    assert ids_of(tmp_path) == ["b", "c"]
    write_deltalake(tmp_path, rows("d"), mode="overwrite")
    assert len(list(tmp_path.glob("*.parquet"))) >= 4
    assert ids_of(tmp_path) == ["d"]


def test_a_table_is_read_from_its_checkpoint_on(tmp_path: Path) -> None:
    for n in range(5):
        write_deltalake(tmp_path, rows(f"d{n}"), mode="append")
    DeltaTable(tmp_path).create_checkpoint()
    for log in (tmp_path / "_delta_log").glob("*[0-3].json"):
        log.unlink()
    write_deltalake(tmp_path, rows("e"), mode="append")
    assert ids_of(tmp_path) == ["d0", "d1", "d2", "d3", "d4", "e"]


def test_partition_values_are_columns_as_the_log_has_them(tmp_path: Path) -> None:
    lang, day, flag, number = (
        ["en US/x%", "fr=é", None],
        [date(2026, 1, 2)] * 3,
        [True, False, True],
        [1, 2, 3],
    )
    table = rows("a", "b", "c", lang=lang, day=day, flag=flag, number=number)
    write_deltalake(tmp_path, table, partition_by=["lang", "day", "flag", "number"])
    records, faults = read(tmp_path)
    assert not faults
    got = sorted((r.id, (r.metadata or {})) for _, r in records)
    assert got == [
        (b"a", {"lang": "en US/x%", "day": "2026-01-02", "flag": "true", "number": "1"}),
        (b"b", {"lang": "fr=é", "day": "2026-01-02", "flag": "false", "number": "2"}),
        (b"c", {"lang": None, "day": "2026-01-02", "flag": "true", "number": "3"}),
    ]


def test_a_column_that_the_table_gained_later_is_absent_from_its_older_files(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a"))
    write_deltalake(tmp_path, rows("b", lang=["en"]), mode="append", schema_mode="merge")
    columns = ColumnsConfig(metadata=("lang",))
    records, faults = read(tmp_path, columns=columns)
    assert not faults
    assert sorted((r.id, r.metadata) for _, r in records) == [(b"a", {}), (b"b", {"lang": b"en"})]
    _, faults = read(tmp_path, columns=ColumnsConfig(metadata=("author",)))
    assert set(faults.values()) == {FileFault("missing_column", "the file has no column 'author'")}


def test_tables_may_stand_beside_each_other_and_beside_files(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "one", rows("a"))
    write_deltalake(tmp_path / "one", rows("b"), mode="overwrite")
    write_deltalake(tmp_path / "deep" / "two", rows("c", lang=["en"]), partition_by=["lang"])
    pq.write_table(rows("d"), tmp_path / "plain.parquet")
    assert ids_of(tmp_path) == ["b", "c", "d"]


def test_rejects_and_text_ids_name_a_file_of_a_table_by_its_path(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "one", rows("a", lang=["é %"]), partition_by=["lang"])
    lake = LakeConfig(dir=tmp_path / "lake")
    (file,) = discover(str(tmp_path), "auto", None, lake)
    assert Path(file.uri).is_file()
    assert file.uri == f"{tmp_path}/{file.name}" == file.path
    fs, _ = filesystem(str(tmp_path), lake)
    assert columns_of(fs, file) == ["doc_id", "text", "lang"]


Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(data: bytes) -> str:
    padded = data + bytes(-len(data) % 4)
    words = [int.from_bytes(padded[at : at + 4]) for at in range(0, len(padded), 4)]
    return "".join(Z85[word // 85**power % 85] for word in words for power in (4, 3, 2, 1, 0))


def deletion_vector(folder: Path, deleted: list[int], is_inline: bool) -> dict[str, Any]:
    """As in Delta's specification: a 64-bit roaring bitmap, in the log or in a file of its own."""
    values = b"".join(struct.pack("<H", row) for row in sorted(deleted))
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(deleted) - 1, 16) + values
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    about = {"sizeInBytes": len(data), "cardinality": len(deleted)}
    if is_inline:
        return about | {"storageType": "i", "pathOrInlineDv": z85(data)}
    name = uuid4()
    framed = b"\1" + struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data))
    (folder / f"deletion_vector_{name}.bin").write_bytes(framed)
    return about | {"storageType": "u", "pathOrInlineDv": z85(name.bytes), "offset": 1}


def with_deleted(folder: Path, deleted: list[int], is_inline: bool) -> None:
    add = next(entry["add"] for entry in entries(folder) if "add" in entry)
    removed = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    added = add | {"deletionVector": deletion_vector(folder, deleted, is_inline)}
    commit(folder, protocol("deletionVectors"), {"remove": removed}, {"add": added})


@pytest.mark.parametrize("is_inline", [True, False])
def test_rows_that_a_deletion_vector_takes_are_not_read_wherever_the_file_is_cut(
    tmp_path: Path, is_inline: bool
) -> None:
    folder = tmp_path / "a table"
    names = [f"d{n:04}" for n in range(3000)]
    deleted = [0, 1, 99, 100, 1500, *range(2000, 2100), 2999]
    write_deltalake(folder, rows(*names, lang=["é/ %"] * 3000), partition_by=["lang"])
    (path,) = folder.glob("*/*.parquet")
    table = pq.ParquetFile(path).read()
    pq.write_table(table, path, row_group_size=100, use_dictionary=False)
    log = folder / "_delta_log" / f"{0:020}.json"
    sized = [
        entry | ({"add": entry["add"] | {"size": path.stat().st_size}} if "add" in entry else {})
        for entry in entries(folder)
    ]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in sized))
    with_deleted(folder, deleted, is_inline)
    (tmp_path / "link").symlink_to(folder)
    live = [row for row in range(3000) if row not in set(deleted)]
    for path, split_bytes in ((folder, 2000), (folder, 1 << 30), (tmp_path / "link", 1 << 30)):
        records, faults = read(path, split_bytes=split_bytes)
        assert not faults
        assert [(r.position, r.id) for _, r in records] == [(row, names[row].encode()) for row in live]


def test_on_s3_a_table_is_read_with_the_same_credentials_as_other_files(
    tmp_path: Path, seaweed: SeaweedServer, s3_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "table"
    for n in range(3):
        write_deltalake(folder, rows(f"old{n}"), mode="append")
    write_deltalake(folder, rows("a", "b", lang=["x y", None]), mode="overwrite", partition_by=["lang"],
                    schema_mode="overwrite")  # fmt: skip
    DeltaTable(folder).create_checkpoint()
    write_deltalake(folder, rows("c", "gone", lang=["é", "é"]), mode="append")
    add = [entry["add"] for entry in entries(folder) if "add" in entry][-1]
    vector = deletion_vector(folder, [1], is_inline=False)
    removed = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    commit(
        folder, protocol("deletionVectors"), {"remove": removed}, {"add": add | {"deletionVector": vector}}
    )
    location = f"{seaweed.bucket}/{s3_config.namespace}/a table"
    keys = {"key": seaweed.access_key, "secret": seaweed.secret_key}
    store = s3fs.S3FileSystem(endpoint_url=seaweed.s3_endpoint, **keys)
    store.put(str(folder), location, recursive=True)
    # A profile, which the library that reads the log would not look at.
    profile = tmp_path / "credentials"
    secret = f"aws_access_key_id={seaweed.access_key}\naws_secret_access_key={seaweed.secret_key}\n"
    profile.write_text(f"[other]\n{secret}")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "other")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    records, faults = read_location(f"s3://{location}", s3_config)
    assert not faults
    assert sorted((r.id, (r.metadata or {})["lang"]) for _, r in records) == [
        (b"a", "x y"), (b"b", None), (b"c", "é"),
    ]  # fmt: skip


def test_a_table_that_maps_its_columns_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a"))
    (meta,) = [entry for entry in entries(tmp_path) if "metaData" in entry]
    meta["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
    schema = json.loads(meta["metaData"]["schemaString"])
    for at, field in enumerate(schema["fields"]):
        field["metadata"] = {"delta.columnMapping.id": at, "delta.columnMapping.physicalName": f"col-{at}"}
    meta["metaData"]["schemaString"] = json.dumps(schema)
    commit(tmp_path, protocol("columnMapping"), meta)
    refused(tmp_path, r"maps its columns.*delta\.columnMapping\.mode = none")


def test_a_table_with_a_feature_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a"))
    commit(tmp_path, protocol("timeTravelByRowTickets"))
    refused(tmp_path, "cannot be read .*timeTravelByRowTickets")


def test_a_broken_log_is_one_line(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a"))
    (tmp_path / "_delta_log" / f"{1:020}.json").write_text("{no json")
    with pytest.raises(InputError, match=r"the Delta table .* cannot be read") as caught:
        discover(str(tmp_path), "auto", None, LakeConfig(dir=tmp_path / "lake"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_of_the_log_that_is_gone_is_told(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a"))
    next(tmp_path.glob("*.parquet")).unlink()
    refused(tmp_path, "names a file that is not in its folder")


def test_a_table_without_files_is_empty(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a"))
    DeltaTable(tmp_path).delete()
    refused(tmp_path, "the Delta table .* is empty")


def test_the_folder_of_an_iceberg_or_hudi_table_is_refused(tmp_path: Path) -> None:
    for at, (marker, words) in enumerate(
        [
            ("metadata/00001-x.metadata.json", "an Iceberg table.*Name it as iceberg:"),
            ("deep/t/metadata/v3.metadata.json", "deep/t is an Iceberg table"),
            (".hoodie/hoodie.properties", "a Hudi table"),
        ]
    ):
        folder = tmp_path / str(at)
        (folder / marker).parent.mkdir(parents=True)
        (folder / marker).write_text("{}")
        pq.write_table(rows("a"), folder / "a.parquet")
        refused(folder, words)


def test_a_delta_table_that_is_an_iceberg_table_too_is_read_by_its_delta_log(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("a"))
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "v1.metadata.json").write_text("{}")
    assert ids_of(tmp_path) == ["a"]


def test_a_tables_files_are_cut_and_grouped_as_others(tmp_path: Path) -> None:
    for n in range(4):
        write_deltalake(tmp_path, rows(f"d{n}"), mode="append")
    shutil.copytree(tmp_path / "_delta_log", tmp_path / "backup")
    files = discover(str(tmp_path), "auto", None, LakeConfig(dir=tmp_path / "lake"))
    assert [len(group) for group in split_files(files, 512 * 1024)] == [2, 2]
