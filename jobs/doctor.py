"""The doctor job: checks the machine and the lake, and says how to mend what is missing."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.settings import Settings
from pipelines.cluster.session import RaySession
from pipelines.errors import EmbedlakeError
from pipelines.lake import Lake
from pipelines.lake.jars import jar_paths
from pipelines.lake.java import find_java_home, is_packaged, java_version
from pipelines.lake.probe import probe_storage
from pipelines.redact import redact

_PACKAGES = ("pyspark", "ray", "torch", "transformers", "pyiceberg", "pyarrow", "s3fs")
_GIB = 1024**3
# The demo's peak is about 4 GiB (tests/benchmarks/RESULTS.md); Spark alone does with less.
_MEMORY_GIB, _DISK_GIB = 4, 5


@dataclass(frozen=True)
class Check:
    """One check's outcome.

    Attributes:
        name: What was checked.
        state: ok; warn where work is possible but slower or riskier; fail where a job would.
        found: What there is.
        mend: What to do; empty where nothing.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    mend: str = ""


def run(settings: Settings, console: Console, as_json: bool) -> int:
    """Runs every check and prints it; returns 1 if one failed, else 0."""
    checks = []
    for name, check in _checks(settings):
        with console.status(f"checking {name}"):
            checks.append(_checked(name, check))
    if as_json:
        result = {"ok": _is_well(checks), "checks": [asdict(check) for check in checks]}
        print(json.dumps(result))  # noqa: T201 - for programs
    else:
        console.print(_table(checks))
    return 0 if _is_well(checks) else 1


def _is_well(checks: list[Check]) -> bool:
    return all(check.state != "fail" for check in checks)


def _checks(settings: Settings) -> list[tuple[str, Callable[[], Check]]]:
    return [
        ("java", _java),
        ("jars", lambda: _jars(settings)),
        ("versions", _versions),
        ("memory", _memory),
        ("disk", lambda: _disk(settings)),
        ("catalogue", lambda: _catalogue(settings)),
        ("object store", lambda: _store(settings)),
        ("ray", lambda: _ray(settings)),
        ("accelerator", _accelerator),
    ]


def _checked(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except EmbedlakeError as error:
        return Check(name, "fail", redact(error.message), error.hint)
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        return Check(name, "fail", redact(f"{type(error).__name__}: {line}"), "Run with --debug for more")


def _java() -> Check:
    home = find_java_home()
    kind = "packaged runtime" if is_packaged(home) else str(home)
    return Check("java", "ok", f"Java {java_version(home)} ({kind})")


def _jars(settings: Settings) -> Check:
    if settings.spark.jars == "provided":
        return Check("jars", "ok", "provided by the cluster")
    paths = jar_paths()
    size = sum(path.stat().st_size for path in paths) / 1e6
    return Check("jars", "ok", f"{len(paths)} jars, {size:.0f} MB in {paths[0].parent}")


def _versions() -> Check:
    found, missing = [f"python {platform.python_version()}"], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Check("versions", "fail", f"not installed: {', '.join(missing)}", "Run 'make setup'")
    return Check("versions", "ok", ", ".join(found))


def _memory() -> Check:
    memory = psutil.virtual_memory()
    found = f"{memory.available / _GIB:.1f} GiB free of {memory.total / _GIB:.1f} GiB"
    if memory.available < _MEMORY_GIB * _GIB:
        mend = f"Have {_MEMORY_GIB} GiB free, or lower spark.driver_memory and ray.object_store_memory"
        return Check("memory", "warn", found, mend)
    return Check("memory", "ok", found)


def _disk(settings: Settings) -> Check:
    places = {"temporary files": tempfile.gettempdir()}
    if settings.lake.root is not None:
        existing = settings.lake.root
        while not existing.exists():
            existing = existing.parent
        places["lake"] = str(existing)
    found, state = [], "ok"
    for name, place in places.items():
        free = shutil.disk_usage(place).free / _GIB
        found.append(f"{free:.0f} GiB free for {name} ({place})")
        if free < _DISK_GIB:
            state = "warn"
    if state == "warn":
        return Check("disk", "warn", ", ".join(found), f"Have {_DISK_GIB} GiB free, or set TMPDIR elsewhere")
    return Check("disk", "ok", ", ".join(found))


def _catalogue(settings: Settings) -> Check:
    lake = Lake.open(settings.lake)
    tables = [name for name in ("chunks", "embeddings") if lake.exists(name)]
    state = f"tables: {', '.join(tables)}" if tables else "no tables yet"
    where = settings.lake.catalog_uri or settings.lake.catalog.type
    return Check("catalogue", "ok", f"{redact(where)}: {state}")


def _store(settings: Settings) -> Check:
    place = probe_storage(Lake.open(settings.lake))
    return Check("object store", "ok", f"wrote, read and deleted a file at {place}")


def _ray(settings: Settings) -> Check:
    with RaySession(settings.ray) as session:
        nodes = session.nodes()
    where = settings.ray.address or "started and ended a local one"
    return Check(
        "ray", "ok", f"{where}: {sum(n.cpus for n in nodes):.0f} CPUs, {sum(n.gpus for n in nodes):.0f} GPUs"
    )


def _accelerator() -> Check:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
        return Check("accelerator", "ok", ", ".join(names))
    cores = len(os.sched_getaffinity(0))
    return Check("accelerator", "ok", f"no GPU; {cores} CPU cores will encode")


def _table(checks: list[Check]) -> Table:
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        lines = escape(check.found) + (f"\n[bold]→ {escape(check.mend)}[/]" if check.mend else "")
        table.add_row(f"[{colours[check.state]}]{check.state}[/]", check.name, lines)
    return table
