"""The Spark session of a lake. Only Spark stages import this module."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf, SparkContext, accumulators
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from pipelines.errors import EnvironmentFault
from pipelines.lake.config import SparkConfig
from pipelines.lake.faults import explained
from pipelines.lake.jars import jar_paths
from pipelines.lake.java import find_java_home
from pipelines.lake.lake import Lake

# What a JVM says that is about to end, and how long it may take to.
_OUT_OF_MEMORY = "java.lang.OutOfMemoryError"
_LAST_WORDS = (_OUT_OF_MEMORY, "SparkContext was shut down")
_LAST_SECONDS = 5.0
_LOG_CONF = Path(__file__).with_name("log4j2.properties")


class SparkJobError(Exception):
    """A failed Spark job, with the JVM's words."""


@contextlib.contextmanager
def spark_session(lake: Lake, config: SparkConfig) -> Iterator[SparkSession]:
    """A session whose catalogue is the lake's; the running one is used, and left running, where there is one.

    Raises:
        EnvironmentFault: No Java, no jars, or Spark does not start.
    """
    running = SparkSession.getActiveSession()
    spark = running or _start(lake, config)
    # A session of its own: another lake's settings of an earlier run must not be in this one.
    session = spark.newSession() if running else spark
    for key, value in (lake.spark_conf() | lake.spark_secrets()).items():
        if key.startswith("spark.sql.catalog."):
            session.conf.set(key, value)
    try:
        with explained(lake.config):
            try:
                yield session
            except Exception as error:
                if _is_lost(error):
                    raise _lost_jvm() from None
                if isinstance(error, Py4JJavaError):
                    # Its text lives in the JVM: taken now, while there is one.
                    raise SparkJobError(str(error)) from None
                raise
    finally:
        if not running:
            stop(spark)


def start_workers(spark: SparkSession) -> None:
    """Starts Spark's Python workers, one a core, which the first step that calls Python would else wait for.

    On a cluster whose executors come and go, those that come later start theirs when they need them.
    """
    cores = spark.sparkContext.defaultParallelism
    spark.range(0, cores, 1, cores).mapInArrow(lambda batches: batches, "id bigint").count()


def stop(spark: SparkSession) -> None:
    """Ends the session and its JVM, whose heap would else stay until this process ends."""
    gateway = SparkContext._gateway
    process = getattr(gateway, "proc", None)
    with contextlib.suppress(Exception):
        spark.stop()
    if gateway is not None:
        gateway.shutdown()
        SparkContext._gateway = None
        SparkContext._jvm = None
    if process is not None:
        process.stdin.close()  # the JVM's sign that its parent is done
        try:
            process.wait(timeout=20)
        except Exception:
            os.killpg(process.pid, signal.SIGKILL) if os.getpgid(
                process.pid
            ) == process.pid else process.kill()


class _UpdateHandler(accumulators.UpdateRequestHandler):
    """pyspark's receiver of accumulators, which prints a traceback when the JVM at the other end is gone."""

    def handle(self) -> None:
        """Receives until the JVM hangs up."""
        with contextlib.suppress(EOFError, ConnectionError):
            super().handle()


def _is_lost(error: Exception) -> bool:
    """Whether `error` came of a JVM that is no more."""
    if isinstance(error, Py4JJavaError):
        with contextlib.suppress(ConnectionError, Py4JError):  # the words were in the JVM
            if not any(word in str(error) for word in _LAST_WORDS):
                return False
    elif not isinstance(error, (Py4JError, ConnectionError)):
        return False
    process = getattr(SparkContext._gateway, "proc", None)
    try:
        # One that is out of memory takes a moment to end.
        return process is not None and process.wait(timeout=_LAST_SECONDS) is not None
    except subprocess.TimeoutExpired:
        return False


def _lost_jvm() -> EnvironmentFault:
    log = _log_file()
    last = log.read_bytes()[-1_000_000:].decode("utf-8", "replace") if log.exists() else ""
    if _OUT_OF_MEMORY in last:
        return EnvironmentFault(
            "Spark's JVM ran out of memory and ended",
            "Give it more (--set spark.driver_memory=4g) and run the same command again: "
            f"what was committed is kept; its log is {log}",
        )
    return EnvironmentFault(
        "Spark's JVM has ended, killed from outside perhaps",
        f"Run the same command again: what was committed is kept; its log is {log}",
    )


def _log_file() -> Path:
    return Path(tempfile.gettempdir()) / f"embedlake-spark-{os.getpid()}.log"


@contextlib.contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """Undoes pyspark's handler of SIGINT.

    It asks the JVM to cancel, on the very connection that the main thread waits on: what comes of it is a
    Py4JError instead of a KeyboardInterrupt. Ending the session cancels its jobs anyway.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _no_process_left_by_a_failure() -> Iterator[None]:
    """Ends the JVM that a failed start has begun, a start that was cut short by Ctrl-C among them.

    pyspark tells of its JVM only once that has answered, and a JVM that nobody waits for stays for good.
    """
    before = set(psutil.Process().children())
    try:
        yield
    except BaseException:
        for child in set(psutil.Process().children()) - before:
            with contextlib.suppress(psutil.NoSuchProcess):
                # Another thread may have begun something of its own meanwhile.
                if not any("pyspark" in word for word in child.cmdline()):
                    continue
                for process in (*child.children(recursive=True), child):
                    process.kill()
                SparkContext._gateway = None
                SparkContext._jvm = None
        raise


def _start(lake: Lake, config: SparkConfig) -> SparkSession:
    log = _log_file()
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.python.daemon.module": "pipelines.spark_daemon",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Rows are documents, up to many MB each: the byte bound (64 MiB) is the one that counts.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{_LOG_CONF} -Dembedlake.log={log}",
    }
    if config.is_local:
        os.environ["JAVA_HOME"] = str(find_java_home())
        os.environ["PYSPARK_PYTHON"] = sys.executable  # else the workers take another Python
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one worker a core already
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
        settings |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": config.driver_memory,
            "spark.sql.shuffle.partitions": str(2 * cores),
        }
    if config.shuffle_partitions is not None:
        settings["spark.sql.shuffle.partitions"] = str(config.shuffle_partitions)
    if config.jars == "local":
        settings["spark.jars"] = ",".join(str(path) for path in jar_paths())
    conf = SparkConf().setAppName("embedlake").setAll(
        list((settings | lake.spark_conf() | config.conf).items())
    )  # fmt: skip
    if config.master:
        conf.setMaster(config.master)
    accumulators.UpdateRequestHandler = _UpdateHandler  # type: ignore[misc] # where pyspark looks it up
    try:
        with _no_process_left_by_a_failure():
            if SparkContext._gateway is None:
                # Another process may have had this one's number.
                log.unlink(missing_ok=True)
                # The JVM's own warnings go where its log goes, not to the terminal.
                with log.open("ab") as stream:
                    gateway = launch_gateway(conf, {"stderr": stream})  # type: ignore[no-untyped-call] # pyspark's own
                SparkContext._ensure_initialized(gateway=gateway)
            with _ctrl_c_kept():
                SparkContext.getOrCreate(conf)
            spark = SparkSession.Builder().config(conf=conf).getOrCreate()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EnvironmentFault(
            f"Spark does not start ({reason})", f"'embedlake doctor' tells what is missing; the log is {log}"
        ) from error
    spark.sparkContext.setLogLevel("WARN")
    return spark
