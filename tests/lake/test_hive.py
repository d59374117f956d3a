"""A Hive metastore as the catalogue: the same tables for both engines, below the lake's own warehouse."""

import json
from pathlib import Path

import pytest

from jobs.status import status_of
from pipelines.curate.config import CurateConfig
from pipelines.curate.run import curate
from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.lake import CatalogConfig, Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.probe import probe_storage
from pipelines.progress import Silent
from tests.embed.inline import embed_inline
from tests.lake.hive import hive_metastore


@pytest.mark.usefixtures("spark")
def test_curate_and_embed_on_a_hive_metastore(tmp_path: Path) -> None:
    rows = [{"doc_id": f"d{n}", "text": f"document {n} is about the number {n}"} for n in range(20)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "hive").mkdir()
    conf = load_model_conf("minilm")
    with hive_metastore(tmp_path / "hive") as uri:
        warehouse = f"file://{tmp_path}/warehouse/"
        config = LakeConfig(buckets=2, warehouse=warehouse, catalog=CatalogConfig(type="hive", uri=uri))
        lake = Lake.open(config)
        assert probe_storage(lake).removeprefix("file:").startswith(f"{tmp_path}/warehouse/")
        for new in (20, 0):
            report = curate(lake, [str(tmp_path / "in.jsonl")], conf, CurateConfig(), SparkConfig(), Silent())
            assert (report.given, report.new) == (20, new)
        done = embed_inline(lake, Encoder.load(conf, device="cpu", threads=1))
        assert done.rows == 20
        status = status_of(lake, Silent())
        assert status["balanced"]
        assert (status["kept"], status["chunks"]) == (20, 20)
        for name in ("chunks", "embeddings"):
            place = lake.table(name).location()
            path = place.removeprefix("file:").removeprefix("//")
            assert path == f"{tmp_path}/warehouse/embedlake.db/{name}"
