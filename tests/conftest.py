"""What the tests of a process share: one Spark, one Ray, one S3 server with a catalogue, each begun once."""

import os
import signal
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from infra.local.seaweed import SeaweedServer
from pipelines.cluster.config import RayConfig
from pipelines.cluster.session import RaySession
from pipelines.lake import CatalogConfig, Lake, LakeConfig, S3Config
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from tests.services import seaweed_server

# One core each for Spark's Python workers and Ray's; and nothing here may reach for a model hub.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell gives what it starts in the background no Ctrl-C, nor what that starts: some tests are about it.
signal.signal(signal.SIGINT, signal.default_int_handler)
_SHARED = os.environ.get("EMBEDLAKE_SHARED", str(Path(__file__).parents[2] / "shared"))
for name in [name for name in os.environ if name.startswith("EMBEDLAKE_")]:
    del os.environ[name]  # a developer's own settings must not decide a test

_SLOW_IN_CI = 3
_SLOW_SEED = os.environ.setdefault("SLOW_SEED", date.today().isoformat())  # for pytest-xdist's processes too
# Their files take longest: begun first, they do not keep one of two processes waiting for the other.
_LONG = ("e2e", "curate", "maintain")


def pytest_report_header() -> str:
    return f"slow tests in CI: {_SLOW_IN_CI}, drawn by SLOW_SEED={_SLOW_SEED}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves slow tests out unless -m asks for them; CI keeps a sample of them, drawn by the day."""
    items.sort(key=lambda item: item.path.parent.name not in _LONG)
    if config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    drawn = Random(_SLOW_SEED).sample(slow, min(_SLOW_IN_CI, len(slow))) if os.environ.get("CI") else []
    left_out = [item for item in slow if item not in drawn]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


settings.register_profile("embedlake", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("embedlake")


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder of data that do not come with the code: EMBEDLAKE_SHARED, or `shared` beside the checkout."""
    return Path(_SHARED)


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """An S3 server with an Iceberg REST catalogue, its credentials in the environment."""
    for server in seaweed_server():
        os.environ |= server.env()
        yield server
        for name in server.env():
            os.environ.pop(name, None)


@pytest.fixture(scope="session")
def spark(seaweed: SeaweedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session; `spark_session` of each lake opens another on its JVM."""
    del seaweed  # its credentials must be in the environment that the JVM inherits
    lake = Lake.open(LakeConfig(dir=tmp_path_factory.mktemp("spark")))
    with spark_session(lake, SparkConfig(driver_memory="1500m")) as session:
        yield session


@pytest.fixture(scope="session")
def ray_session(seaweed: SeaweedServer) -> Iterator[RaySession]:
    """The one Ray on this machine; `embed` uses it as it is."""
    del seaweed  # its credentials must be in the environment that the workers inherit
    with RaySession(RayConfig(object_store_memory=300 * 2**20)) as session:
        session.start()
        yield session


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
