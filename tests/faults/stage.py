"""What seeds share: one Ray cluster and one S3 server, started once."""
# ruff: noqa: T201

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.local.seaweed import SeaweedServer
from pipelines.lake import CatalogConfig, LakeConfig, S3Config
from tests.faults.cluster import FaultyCluster
from tests.faults.drivers import Spare
from tests.faults.outages import Outage
from tests.faults.play import Play, Result
from tests.faults.schedule import Schedule


class Stage:
    """A context manager; its lakes are of their seeds alone."""

    def __init__(self, verbose: bool = False) -> None:
        self._verbose = verbose
        self._open = ExitStack()

    def play(self, schedule: Schedule) -> Result:
        """One seed, on a lake of its own."""
        with tempfile.TemporaryDirectory(prefix="faults-", dir=self._folder) as name:
            folder = Path(name)
            if schedule.lake == "local":
                config, outage = LakeConfig(dir=folder / "lake", buckets=2), Outage(root=folder / "lake")
            else:
                config, outage = self._s3_config(f"f{folder.name[7:]}{schedule.seed}"), Outage(self._server)
            return Play(schedule, config, self._cluster, outage, self._spare, folder, self._say).run()

    def _say(self, line: str) -> None:
        if self._verbose:
            print(line, flush=True)

    def _s3_config(self, namespace: str) -> LakeConfig:
        server = self._server
        return LakeConfig(
            namespace=namespace.replace("_", "x"),
            buckets=2,
            warehouse=server.warehouse,
            catalog=CatalogConfig(
                type="rest",
                uri=server.catalog_uri,
                auth="oauth2",
                oauth2_server_uri=server.oauth2_server_uri,
            ),
            s3=S3Config(endpoint=server.s3_endpoint),
        )

    def __enter__(self) -> Self:
        with self._open:
            self._folder = Path(tempfile.mkdtemp(prefix="faults-"))
            self._open.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._open.callback(_restore, dict(os.environ))  # a test process has others after this
            self._server = self._open.enter_context(SeaweedServer(self._folder / "s3"))
            os.environ |= self._server.env()  # before Ray starts: its workers inherit it
            os.environ |= {"PYTHONPATH": str(Path(__file__).parents[2])}
            os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
            self._cluster = self._open.enter_context(FaultyCluster(helper_node=False))
            self._spare = Spare(self._folder / "stderr")
            self._open.callback(self._spare.close)
            self._open = self._open.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ |= environment
