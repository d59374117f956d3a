"""Writers in processes of their own. Their imports are light, and made once for all of them."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from uuid import uuid4

from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import WrittenFile
from tests.lake.samples import written

# Forked from a server without threads, which has imported this module; the environment is passed along, for
# the server keeps that of its start.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])
_start: Any = None


def at_once(writers: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Runs `work(writer, *arguments)` in as many processes, all started at the same moment."""
    setup = (_CONTEXT.Barrier(writers), dict(os.environ))
    with ProcessPoolExecutor(writers, _CONTEXT, _prepare, setup) as pool:
        futures = [pool.submit(_started, work, writer, *arguments) for writer in range(writers)]
        return [future.result() for future in futures]


def exit_code(work: Callable[..., Any], *arguments: Any) -> int | None:
    """Runs `work(*arguments)` in one process and tells how it ended."""
    process = _CONTEXT.Process(target=_with_environment, args=(dict(os.environ), work, *arguments))
    process.start()
    process.join()
    return process.exitcode


def append_many(writer: int, config: LakeConfig, appends: int, rows: int) -> list[str]:
    """Appends files one after another, as one of many writers; the keys that it wrote."""
    table = Lake.open(config).table("rejects")
    keys = []
    for number in range(appends):
        ours = [f"{writer}-{number}-{row}-{uuid4().hex[:6]}" for row in range(rows)]
        done = append_files(table, [written(table, ours)], {"writer": str(writer)})
        assert len(done) == 1
        keys += ours
    return keys


def offer(writer: int, config: LakeConfig, files: Sequence[WrittenFile]) -> list[str]:
    """Appends ready files one by one; the paths of those that it was the one to append."""
    del writer
    table = Lake.open(config).table("rejects")
    return [done.path for file in files for done in append_files(table, [file], {})]


def create_tables(writer: int, config: LakeConfig) -> list[str]:
    """Opens the lake and creates its tables; the tables' ids."""
    del writer
    lake = Lake.open(config)
    lake.ensure_tables()
    return [str(lake.table(name).metadata.table_uuid) for name in ("chunks", "embeddings")]


def append_and_die(config: LakeConfig, file: WrittenFile, when: str) -> None:
    """Appends, and is killed at the named moment."""
    table = Lake.open(config).table("rejects")
    send = table.catalog.commit_table

    def commit_table(*arguments: Any) -> Any:
        if when == "after the commit":
            send(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(table.catalog, "commit_table", commit_table)  # noqa: B010 - mypy minds the plain assignment
    if when == "before the commit":
        os.kill(os.getpid(), signal.SIGKILL)
    append_files(table, [file], {})


def _prepare(start: Any, environment: dict[str, str]) -> None:
    global _start
    _start = start
    os.environ |= environment


def _started(work: Callable[..., Any], *arguments: Any) -> Any:
    _start.wait()
    return work(*arguments)


def _with_environment(environment: dict[str, str], work: Callable[..., Any], *arguments: Any) -> None:
    os.environ |= environment
    work(*arguments)
