"""What the tests share: one Spark session, one Ray, one S3 server with a REST catalogue, each started once."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from infra.local.seaweed import SeaweedServer
from pipelines.embed.cluster import ray_cluster
from pipelines.embed.config import RayConfig
from pipelines.lake import CatalogConfig, Lake, LakeConfig, S3Config
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from tests.services import seaweed_server

# One core each for Spark's Python workers and Ray's; and nothing here may reach for a model hub.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("EMBEDLAKE_")]:
    del os.environ[name]  # a developer's own settings must not decide a test

settings.register_profile("embedlake", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("embedlake")


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """An S3 server with an Iceberg REST catalogue, its credentials in the environment."""
    server = seaweed_server()
    started = next(server)
    os.environ |= started.env()
    yield started
    for name in started.env():
        os.environ.pop(name, None)
    server.close()


@pytest.fixture(scope="session")
def spark(seaweed: SeaweedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session; `spark_session` of each lake opens another on its JVM."""
    del seaweed  # its credentials must be in the environment that the JVM inherits
    lake = Lake.open(LakeConfig(dir=tmp_path_factory.mktemp("spark")))
    with spark_session(lake, SparkConfig(driver_memory="1500m")) as session:
        yield session


@pytest.fixture(scope="session")
def ray_session(seaweed: SeaweedServer) -> Iterator[None]:
    """The one Ray on this machine."""
    del seaweed
    with ray_cluster(RayConfig(object_store_memory=300 * 2**20)):
        yield


@pytest.fixture
def local_config(tmp_path: Path) -> LakeConfig:
    """An empty local lake."""
    return LakeConfig(dir=tmp_path / "lake", buckets=2)


@pytest.fixture
def s3_config(seaweed: SeaweedServer) -> LakeConfig:
    """An empty namespace of the REST catalogue on S3."""
    catalog = CatalogConfig(
        type="rest",
        uri=seaweed.catalog_uri,
        auth="oauth2",
        oauth2_server_uri=seaweed.oauth2_server_uri,
    )
    return LakeConfig(
        namespace=f"t{uuid4().hex[:12]}",
        buckets=2,
        warehouse=seaweed.warehouse,
        catalog=catalog,
        s3=S3Config(endpoint=seaweed.s3_endpoint),
    )


@pytest.fixture(params=["local", "s3"])
def lake_config(request: pytest.FixtureRequest) -> LakeConfig:
    """An empty lake, once of each kind."""
    config: LakeConfig = request.getfixturevalue(f"{request.param}_config")
    return config
