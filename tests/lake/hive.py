"""A real Hive metastore, out of the jars that Spark carries: its Thrift service on a database in memory.

`python -m tests.lake.hive FOLDER` serves on a free loopback port, prints it, and ends with its input.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspark
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from pipelines.lake.java import find_java_home

_SITE = {
    "javax.jdo.option.ConnectionURL": "jdbc:derby:memory:metastore;create=true",
    "javax.jdo.option.ConnectionDriverName": "org.apache.derby.jdbc.EmbeddedDriver",
    "datanucleus.schema.autoCreateAll": "true",
    "datanucleus.connectionPoolingType": "NONE",  # Spark carries none of its pools
    "hive.metastore.schema.verification": "false",
    "hive.async.log.enabled": "false",
}


@contextmanager
def hive_metastore(folder: Path) -> Iterator[str]:
    """The address of a metastore that keeps its files in `folder` while the block lasts."""
    command = [sys.executable, "-m", "tests.lake.hive", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"thrift://127.0.0.1:{int(server.stdout.readline())}"


def main(folder: Path) -> None:
    """Serves until standard input ends; the JVM ends with this process."""
    site = _SITE | {"hive.metastore.warehouse.dir": f"file://{folder}/default"}
    named = "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in site.items())
    (folder / "hive-site.xml").write_text(f"<configuration>{named}</configuration>")
    with (folder / "log").open("w") as log:
        port, token = launch_gateway(
            classpath=f"{folder}:{Path(pyspark.__file__).parent}/jars/*",
            java_path=str(find_java_home() / "bin" / "java"),
            javaopts=[f"-Dderby.stream.error.file={folder}/derby.log", f"-Djava.io.tmpdir={folder}"],
            die_on_exit=True,
            enable_auth=True,
            redirect_stdout=log,
            redirect_stderr=log,
        )  # fmt: skip
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
        print(_serve(gateway.jvm), flush=True)  # noqa: T201 - for the process that started this one
        sys.stdin.read()


def _serve(jvm: Any) -> int:
    """Starts the service on a port of its own choice: Hive's `main` would listen on every interface."""
    metastore, thrift = jvm.org.apache.hadoop.hive.metastore, jvm.org.apache.thrift
    conf = jvm.org.apache.hadoop.hive.conf.HiveConf()
    metastore.txn.TxnDbUtil.prepDb(conf)  # the tables of its locks
    handler = metastore.HiveMetaStore.newRetryingHMSHandler("metastore", conf, False)
    socket = thrift.transport.TServerSocket(jvm.java.net.InetSocketAddress("127.0.0.1", 0))
    processor = metastore.TSetIpAddressProcessor(handler)
    server = thrift.server.TThreadPoolServer(
        thrift.server.TThreadPoolServer.Args(socket).processor(processor)
    )
    threading.Thread(target=server.serve, daemon=True).start()
    return int(socket.getServerSocket().getLocalPort())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
