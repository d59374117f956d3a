import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import requests
import s3fs
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import OAuthError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import NestedField, StringType

from infra.local.ports import GRPC_OFFSET, free_ports
from infra.local.seaweed import SeaweedServer, export_lines, write_env_file
from pipelines.errors import EnvironmentFault
from tests.services import seaweed_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[SeaweedServer]:
    yield from seaweed_server()


def s3(server: SeaweedServer, secret: str | None = None) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        key=server.access_key,
        secret=secret or server.secret_key,
        endpoint_url=server.s3_endpoint,
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def catalog(server: SeaweedServer, secret: str | None = None) -> Catalog:
    properties = {
        "type": "rest",
        "uri": server.catalog_uri,
        "warehouse": server.warehouse,
        "credential": f"{server.access_key}:{secret or server.secret_key}",
        "oauth2-server-uri": server.oauth2_server_uri,
        "s3.endpoint": server.s3_endpoint,
        "s3.region": "us-east-1",
        "s3.access-key-id": server.access_key,
        "s3.secret-access-key": server.secret_key,
    }
    return load_catalog("lake", **properties)


def wait_until_gone(pid: int) -> None:
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
    assert not psutil.pid_exists(pid)


def test_objects_are_written_listed_and_read(server: SeaweedServer) -> None:
    files = s3(server)
    big = os.urandom(12_000_000)  # over the size from which s3fs uploads in parts
    with files.open(f"{server.bucket}/raw/big", "wb", block_size=5 * 2**20) as file:
        file.write(big)
    files.pipe(f"{server.bucket}/raw/small", b"small")
    assert files.find(f"{server.bucket}/raw") == [f"{server.bucket}/raw/{name}" for name in ("big", "small")]
    assert files.cat(f"{server.bucket}/raw/big") == big


def test_a_partitioned_table_is_created_appended_to_and_read(server: SeaweedServer) -> None:
    lake = catalog(server)
    lake.create_namespace("tables")
    columns = [
        NestedField(n, name, StringType(), required=True) for n, name in enumerate(("id", "source"), 1)
    ]
    spec = PartitionSpec(
        PartitionField(2, 1000, IdentityTransform(), "source"),
        PartitionField(1, 1001, BucketTransform(4), "id_bucket"),
    )
    table = lake.create_table("tables.some", Schema(*columns), partition_spec=spec)
    rows = [{"id": str(number), "source": "odd" if number % 2 else "even"} for number in range(20)]
    table.append(pa.Table.from_pylist(rows, schema=schema_to_pyarrow(table.schema())))
    read = catalog(server).load_table("tables.some")
    assert sorted(read.scan().to_arrow()["id"].to_pylist()) == sorted(row["id"] for row in rows)
    assert read.scan("source = 'odd'").to_arrow().num_rows == 10
    assert read.location().startswith(server.warehouse)


def test_a_wrong_secret_is_refused_by_both_services(server: SeaweedServer) -> None:
    with pytest.raises(PermissionError, match="signature"):
        s3(server, "wrong").ls(server.bucket)
    with pytest.raises(OAuthError, match="Invalid client credentials"):
        catalog(server, "wrong")


def test_an_absent_bucket_is_an_error_and_not_created(server: SeaweedServer) -> None:
    files = s3(server)
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        files.pipe("absent/key", b"")
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        files.ls("absent")


def test_it_listens_on_the_loopback_interface_alone(server: SeaweedServer) -> None:
    assert server.pid is not None
    sockets = psutil.Process(server.pid).net_connections("inet")
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert all(address.port < 32_768 for address in listening)


def test_two_run_side_by_side_with_data_and_credentials_of_their_own(
    server: SeaweedServer, tmp_path: Path
) -> None:
    with SeaweedServer(tmp_path, bucket="other") as other:
        s3(other).pipe("other/key", b"theirs")
        assert not s3(server).exists("other/key")
        assert (other.access_key, other.secret_key) != (server.access_key, server.secret_key)


def test_killed_or_stopped_it_comes_back_with_its_data_at_the_same_address(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path, access_key="key", secret_key="secret")
    before = server.profile_env()
    server.start()
    files = s3(server)
    for number, end in enumerate((server.kill, server.stop)):
        files.pipe(f"{server.bucket}/{number}", b"kept")
        pid = server.pid
        assert pid is not None
        end()
        wait_until_gone(pid)
        with pytest.raises(requests.ConnectionError):
            requests.get(server.s3_endpoint, timeout=5)
        server.start()
        assert files.cat(f"{server.bucket}/{number}") == b"kept"
    assert server.profile_env() == before
    server.stop()
    server.stop()
    assert server.pid is None


def test_a_server_that_does_not_come_up_is_a_fault_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path)
    host, port = server.s3_endpoint.removeprefix("http://").split(":")
    with socket.create_server((host, int(port))), pytest.raises(EnvironmentFault) as fault:
        server.start()
    assert port in fault.value.message
    assert str(server.log_path) in fault.value.hint
    assert server.pid is None
    with pytest.raises(EnvironmentFault, match="did not answer in 0 s"):
        server.start(timeout_s=0)
    assert server.pid is None


def test_free_ports_are_distinct_and_free_with_their_grpc_ports() -> None:
    ports = free_ports(6)
    both = ports + [port + GRPC_OFFSET for port in ports]
    assert len(set(both)) == 12
    for port in both:
        socket.create_server(("127.0.0.1", port)).close()


def test_the_env_file_is_its_owners_alone_and_a_shell_reads_what_was_written(tmp_path: Path) -> None:
    values = {"EMBEDLAKE_PLAIN": "s3://icelake/", "EMBEDLAKE_ODD": "a b'c\"$d"}
    path = tmp_path / "env"
    path.write_text("an older one, readable by all")
    path.chmod(0o644)
    write_env_file(path, values)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == export_lines(values)
    shown = subprocess.check_output(["sh", "-c", f'. {path}; printf %s "$EMBEDLAKE_ODD"'], text=True)
    assert shown == values["EMBEDLAKE_ODD"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(end: signal.Signals, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    command = [sys.executable, "-m", "infra.local.seaweed", "--dir", str(tmp_path / "d"), "--env-file"]
    process = subprocess.Popen([*command, str(env_file)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not env_file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = [line.removeprefix("export ") for line in env_file.read_text().splitlines()]
    values = dict(line.split("=", 1) for line in lines)
    assert values["AWS_REGION"] == "us-east-1"
    assert values["EMBEDLAKE_LAKE__WAREHOUSE"] == "s3://icelake/"
    assert values["EMBEDLAKE_CATALOG_CREDENTIAL"].startswith(values["AWS_ACCESS_KEY_ID"] + ":")
    assert requests.get(f"{values['EMBEDLAKE_LAKE__S3__ENDPOINT']}/healthz", timeout=5).ok
    children = psutil.Process(process.pid).children()
    assert len(children) == 1
    process.send_signal(end)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert values["AWS_SECRET_ACCESS_KEY"] not in printed
    wait_until_gone(children[0].pid)
