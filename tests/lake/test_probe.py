import socket
from pathlib import Path

import pytest
import s3fs

from infra.local.seaweed import SeaweedServer
from pipelines.errors import StorageError
from pipelines.lake import CatalogConfig, Lake, LakeConfig, S3Config
from pipelines.lake.probe import probe_storage
from pipelines.lake.tables import TABLES
from tests.lake.samples import opened


def test_storage_that_works_is_found_to_before_there_are_tables_and_after(lake_config: LakeConfig) -> None:
    before = probe_storage(Lake.open(lake_config))
    assert before.startswith(f"{str(lake_config.warehouse_uri).rstrip('/')}/{lake_config.namespace}/")
    lake = opened(lake_config)
    assert probe_storage(lake) == f"{lake.table('chunks').location()}/data"
    assert {name for _, name in lake.catalog.list_tables(lake_config.namespace)} == {
        spec.name for spec in TABLES
    }


def test_nothing_is_left_behind_on_a_disk(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    before = sorted(path for path in Path(str(local_config.root)).rglob("*") if path.is_file())
    probe_storage(lake)
    assert sorted(path for path in Path(str(local_config.root)).rglob("*") if path.is_file()) == before


def test_nothing_is_left_behind_in_an_object_store(seaweed: SeaweedServer, tmp_path: Path) -> None:
    config = LakeConfig(
        warehouse=f"s3://{seaweed.bucket}/probe",
        catalog=CatalogConfig(uri=f"sqlite:///{tmp_path}/catalog.db"),
        s3=S3Config(endpoint=seaweed.s3_endpoint),
    )
    assert probe_storage(Lake.open(config)) == f"s3://{seaweed.bucket}/probe/embedlake/chunks/data"
    files = s3fs.S3FileSystem(endpoint_url=seaweed.s3_endpoint, skip_instance_cache=True)
    left = files.find(f"{seaweed.bucket}/probe", detail=True)
    assert all(path.endswith("/") and info["size"] == 0 for path, info in left.items())  # pyarrow's marks


def test_no_table_is_left_behind_where_the_storage_refuses(s3_config: LakeConfig) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        lake = Lake.open(s3_config.model_copy(update={"s3": S3Config(endpoint=endpoint)}))
        with pytest.raises(StorageError, match="the object store does not answer"):
            probe_storage(lake)
    assert lake.catalog.list_tables(s3_config.namespace) == []
