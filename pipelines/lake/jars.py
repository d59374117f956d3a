"""The Spark jars: pinned in `jars.toml`, fetched once a machine, checked by sha256. Run it to fetch them."""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path
from xml.sax.saxutils import quoteattr

from pipelines.errors import EmbedlakeError, EnvironmentFault
from pipelines.lake.cache import cache_dir
from pipelines.lake.java import find_java_home, is_packaged
from pipelines.lake.trust import machine_authorities, trust_store

_HINT = "Fetch them with `make setup` or `python -m pipelines.lake.jars`"
# `ibiblio` is Ivy's name for its default repository, whose host Ivy knows.
_SETTINGS = """\
<ivysettings>
  <settings defaultResolver="public"/>
  <caches defaultCacheDir={cache}/>
  <resolvers><ibiblio name="public" m2compatible="true"/></resolvers>
</ivysettings>
"""
_MODULE = """\
<ivy-module version="2.0">
  <info organisation="embedlake" module="jars"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
    {dependencies}
  </dependencies>
</ivy-module>
"""


@dataclass(frozen=True)
class Jar:
    """One pinned jar.

    Attributes:
        organisation: Maven group.
        name: Maven artifact.
        revision: Maven version.
        size: Bytes.
        sha256: Of the file, in hexadecimal digits.
    """

    organisation: str
    name: str
    revision: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The jar's name in the cache and in Ivy's retrieve pattern."""
        return f"{self.name}-{self.revision}.jar"


@cache
def pinned_jars() -> tuple[Jar, ...]:
    """The jars of `jars.toml`, in its order."""
    text = Path(__file__).with_name("jars.toml").read_text(encoding="utf-8")
    return tuple(Jar(**entry) for entry in tomllib.loads(text)["jar"])


def jars_dir() -> Path:
    """The folder that the jars are fetched into; it need not exist yet."""
    return cache_dir() / "jars"


def jar_paths() -> list[Path]:
    """The fetched jars, for `spark.jars`.

    Only their sizes are compared here (a session's start should not read 126 MB): `fetch` checked their sums
    before it gave them their names.

    Raises:
        EnvironmentFault: A jar is absent, or of another size than the pinned one.
    """
    absent = [jar.file_name for jar in pinned_jars() if not _has_size(jar)]
    if absent:
        raise EnvironmentFault(f"Spark's jars are not in {jars_dir()}: {', '.join(absent)}", _HINT)
    return [jars_dir() / jar.file_name for jar in pinned_jars()]


def fetch(jars: Sequence[Jar] | None = None) -> list[Path]:
    """Fetches the jars that `jars_dir()` lacks, or has with another sum than the pinned one.

    Safe to kill and to run twice at once: a jar gets its name only when it is whole and its sum is right.

    Args:
        jars: Which; all the pinned ones unless given.

    Returns:
        The path of each.

    Raises:
        EnvironmentFault: There is no Java, the repository cannot be reached, a file differs from its pinned
            sum, or the folder cannot be written.
    """
    wanted = pinned_jars() if jars is None else jars
    try:
        if not all(_is_pinned(jar) for jar in wanted):
            jars_dir().mkdir(parents=True, exist_ok=True)
            with (jars_dir() / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the kernel, also when the holder is killed
                for left_by_a_kill in jars_dir().glob("fetch-*"):
                    shutil.rmtree(left_by_a_kill)
                # Asked again: who held the lock may have fetched them.
                _fetch_locked([jar for jar in wanted if not _is_pinned(jar)])
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write the jars into {jars_dir()}: {error.strerror or error}",
            "Free some space, or set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    return [jars_dir() / jar.file_name for jar in wanted]


def ivy_module(jars: Sequence[Jar]) -> str:
    """The Ivy file that asks for exactly `jars` and nothing that they depend on."""
    dependencies = (
        f"<dependency org={quoteattr(jar.organisation)} name={quoteattr(jar.name)} "
        f'rev={quoteattr(jar.revision)} conf="default->master" transitive="false"/>'
        for jar in jars
    )
    return _MODULE.format(dependencies="\n    ".join(dependencies))


def ivy_reason(output: str) -> str:
    """Why Ivy failed, from what it printed: the causes it names, else what it did not find; may be empty."""
    causes = re.findall(r"\((\S+(?:Exception|Error): .+)\)$", output, re.MULTILINE)
    missing = re.findall(r":: (\S+): not found", output)
    return "; ".join(dict.fromkeys(causes)) or ", ".join(f"no {name}" for name in missing)


def _has_size(jar: Jar) -> bool:
    path = jars_dir() / jar.file_name
    return path.is_file() and path.stat().st_size == jar.size


def _is_pinned(jar: Jar) -> bool:
    return _has_size(jar) and _sha256(jars_dir() / jar.file_name) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_locked(jars: Sequence[Jar]) -> None:
    if not jars:
        return
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=jars_dir()) as folder:
        _run_ivy(jars, Path(folder))
        for jar in jars:
            fetched = Path(folder) / jar.file_name
            if not fetched.is_file():
                raise EnvironmentFault(f"the repository served no {jar.file_name}", _HINT)
            found = _sha256(fetched)
            if found != jar.sha256:
                raise EnvironmentFault(
                    f"{jar.file_name} came with sha256 {found} and size {fetched.stat().st_size}",
                    "jars.toml pins others: the repository served another file than the one that was tested",
                )
            fetched.replace(jars_dir() / jar.file_name)


def _run_ivy(jars: Sequence[Jar], folder: Path) -> None:
    settings, module = folder / "settings.xml", folder / "ivy.xml"
    settings.write_text(_SETTINGS.format(cache=quoteattr(str(folder / "cache"))), encoding="utf-8")
    module.write_text(ivy_module(jars), encoding="utf-8")
    command = [
        *_java_command(folder),
        "-jar",
        str(_ivy_jar()),
        "-settings",
        str(settings),
        "-ivy",
        str(module),
    ]
    command += ["-types", "jar", "-retrieve", f"{folder}/[artifact]-[revision].[ext]"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise EnvironmentFault(
            f"the Spark jars could not be fetched: {ivy_reason(done.stdout) or done.stderr.strip()}",
            f"Check the network, or copy into {jars_dir()}: {', '.join(jar.file_name for jar in jars)}",
        )


def _java_command(folder: Path) -> list[str]:
    home = find_java_home()
    command = [str(home / "bin" / "java")]
    if is_packaged(home) and (authorities := machine_authorities()):
        store = folder / "trust.jks"
        store.write_bytes(trust_store(authorities))
        command += [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=JKS"]
    return command


def _ivy_jar() -> Path:
    package = util.find_spec("pyspark")
    jars = Path(package.origin).parent.glob("jars/ivy-*.jar") if package and package.origin else iter(())
    found = next(jars, None)
    if found is None:
        raise EnvironmentFault("the installed pyspark has no Ivy", "Install the `pyspark` of the lock file")
    return found


def main() -> int:
    """Fetches the jars and prints one line for each; 1 and the reason on standard error where it fails."""
    try:
        for path in fetch():
            sys.stdout.write(f"{path.stat().st_size / 1e6:6.1f} MB  {path}\n")
    except EmbedlakeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
