"""An object store that answers with faults of its own, and files that go while they are read."""

from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import s3fs
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSelector, S3FileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO

from pipelines.errors import StorageError
from pipelines.lake import LakeConfig
from pipelines.lake.faults import explained
from tests.lake.samples import fault


class _FailingStore(BaseHTTPRequestHandler):
    """Answers as an object store does in which something goes wrong, or that is asked too much."""

    status, code = 500, "InternalError"

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments

    def _fail(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = _fail  # noqa: N815 - the server's names


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (503, "SlowDown"), (503, "ServiceUnavailable"), (429, "TooManyRequests")],
)
def test_a_store_that_fails_by_itself_is_worth_another_try(
    local_config: LakeConfig, status: int, code: str
) -> None:
    handler = type("Handler", (_FailingStore,), {"status": status, "code": code})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        once = AwsStandardS3RetryStrategy(max_attempts=1)
        store = S3FileSystem(
            access_key="a", secret_key="b", endpoint_override=address, region="x", retry_strategy=once
        )
        files = s3fs.S3FileSystem(
            key="a",
            secret="b",
            client_kwargs={"endpoint_url": address},
            config_kwargs={"retries": {"max_attempts": 1}},
            skip_instance_cache=True,
        )
        files.retries = 1
        actions: list[Callable[[], object]] = [
            lambda: store.open_input_file("bucket/key"),
            lambda: store.open_output_stream("bucket/key"),
            lambda: store.get_file_info(FileSelector("bucket/folder")),
            partial(files.cat, "bucket/key"),
        ]
        for action in actions:
            with fault(StorageError, "the object store fails"), explained(local_config):
                action()
        server.shutdown()


def test_a_file_that_is_removed_while_it_is_read_is_told(local_config: LakeConfig, tmp_path: Path) -> None:
    gone = PyArrowFileIO().new_input(f"file://{tmp_path}/metadata/snap-1.avro")
    with fault(StorageError, "run the same command again"), explained(local_config):
        len(gone)
