"""What a user gets for a wrong call: an exit code, and one line that says what is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from infra.local.seaweed import SeaweedServer
from tests.e2e.cli import Result, embedlake

ONE_DOCUMENT = '{"doc_id": "a", "text": "x"}\n'


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(ONE_DOCUMENT)
    return tmp_path / "in"


def one_line(done: Result) -> str:
    assert done.code not in (0, None)
    assert done.out == ""
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["curate", "{dir}/nowhere"], "there is no .*/nowhere"),
        (["curate", "{dir}/empty"], "is empty"),
        (
            ["curate", "{dir}/in", "--text-column", "body"],
            r"no column 'body' \(it has: doc_id, text\).*--text-column",
        ),
        (["curate", "{dir}/in", "--id-column", "key"], r"no column 'key' .*--id-column"),
        (["curate", "{dir}/in", "--format", "docx"], "curate.format"),
        (
            ["curate", "{dir}/in", "--set", "curate.chunk.max_token=3"],
            "Did you mean 'curate.chunk.max_tokens'",
        ),
        (["curate", "{dir}/in", "--set", "curat.format=text"], "Did you mean 'curate"),
        (["curate", "{dir}/in", "--set", "curate.chunk.max_tokens=9000"], "takes .* tokens"),
        (["curate", "{dir}/in", "--set", "nonsense"], "NAME=VALUE"),
        (["curate", "{dir}/in", "--profile", "nowhere"], "no profile 'nowhere'.*cluster, local, s3"),
        (["curate", "{dir}/in", "--model", "nothing"], "no model 'nothing'.*minilm"),
        (["embed"], "no table.*embedlake curate"),
        (["search", "anything"], "no table|no embeddings"),
        (["status", "--profile", "s3"], "EMBEDLAKE_LAKE__CATALOG__URI"),
    ],
)
def test_a_wrong_call_says_what_and_how_to_mend_it(
    corpus: Path, tmp_path: Path, words: list[str], expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    lake = [] if "--profile" in words else ["--lake", str(tmp_path / "lake")]
    line = one_line(embedlake(*(word.format(dir=tmp_path) for word in words), *lake))
    assert re.search(expected, line), line


S3Case = Callable[[dict[str, str]], None]


def _wrong_secret(env: dict[str, str]) -> None:
    env["AWS_SECRET_ACCESS_KEY"] = "not-the-right-secret-key"


def _no_bucket(env: dict[str, str]) -> None:
    env["TEST_BUCKET"] = "nobucket"


def _store_down(env: dict[str, str]) -> None:
    env["EMBEDLAKE_LAKE__S3__ENDPOINT"] = env["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:9"


def _catalog_down(env: dict[str, str]) -> None:
    env["EMBEDLAKE_LAKE__CATALOG__URI"] = "http://127.0.0.1:9"
    env["EMBEDLAKE_LAKE__CATALOG__OAUTH2_SERVER_URI"] = "http://127.0.0.1:9/v1/oauth/tokens"


def _wrong_credential(env: dict[str, str]) -> None:
    env["EMBEDLAKE_CATALOG_CREDENTIAL"] = "someone:wrong-credential"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_wrong_secret, "object store refuses the credentials.*AWS_SECRET_ACCESS_KEY"),
        (_no_bucket, "bucket does not exist"),
        (_store_down, "object store does not answer.*lake.s3.endpoint"),
        (_catalog_down, "catalogue.*http://127.0.0.1:9.* does not answer.*lake.catalog"),
        (_wrong_credential, "refuses the credential.*EMBEDLAKE_CATALOG_CREDENTIAL"),
    ],
)
def test_a_service_that_fails_is_named_and_no_secret_is(
    seaweed: SeaweedServer, spoil: S3Case, expected: str
) -> None:
    env = {**seaweed.profile_env(), "TEST_BUCKET": seaweed.bucket}
    spoil(env)
    done = command("curate", f"s3://{env['TEST_BUCKET']}/corpus", "--profile", "s3", env=env)
    line = one_line(done)
    assert re.search(expected, line), line
    for secret in (seaweed.secret_key, env["AWS_SECRET_ACCESS_KEY"], "wrong-credential"):
        assert secret not in done.err


def command(*words: str, env: Mapping[str, str] | None = None) -> Result:
    """The command in a process of its own, whose AWS clients have no memory of another test's."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words],
        env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = embedlake("embed", "--lake", str(tmp_path), "--debug")
    assert "Traceback" in done.err
    assert done.err.splitlines()[0].startswith("error: ")


def test_global_options_may_stand_before_or_after_the_command(tmp_path: Path) -> None:
    before = embedlake("--lake", str(tmp_path), "--set", "lake.buckets=3", "status", "--json")
    after = embedlake("status", "--json", f"--lake={tmp_path}", "--set", "lake.buckets=3")
    assert before.code == after.code == 0
    assert before.json() == after.json()
    assert before.json()["balanced"] is True


def test_a_query_may_look_like_an_option(tmp_path: Path) -> None:
    line = one_line(embedlake("search", "--lake", str(tmp_path), "--", "--set"))
    assert "no table" in line


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_one_line(corpus: Path, tmp_path: Path) -> None:
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    words = ["curate", str(corpus), "--model", "nomic-embed-text-v1.5", "--lake", str(tmp_path / "lake")]
    line = one_line(command(*words, env=hub))
    assert re.search(r"neither in the cache nor could it be fetched.*hf download.*--revision", line), line


def test_ctrl_c_while_spark_starts_leaves_no_process(corpus: Path, tmp_path: Path) -> None:
    with started("curate", str(corpus), "--lake", str(tmp_path / "lake")) as process:
        java: list[psutil.Process] = []
        while not java and process.poll() is None:
            java = [child for child in psutil.Process(process.pid).children() if is_spark(child)]
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted: what was committed is kept")
    assert "Traceback" not in err
    _, left = psutil.wait_procs(java, timeout=60)
    assert not left


@pytest.mark.slow
def test_ctrl_c_ends_curate_with_one_line_and_the_next_run_finishes(tmp_path: Path) -> None:
    rows = [json.dumps({"doc_id": f"d{n}", "text": f"text {n} " * 400}) for n in range(20_000)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(rows))
    words = ["curate", str(tmp_path / "in"), "--lake", str(tmp_path / "lake")]
    with started(*words) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("chunking") and " of " in line:  # Spark has been at it for ten seconds
                break
        os.killpg(process.pid, signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert rest.startswith("interrupted: what was committed is kept")
    assert rest.count("\n") == 1
    assert command(*words).code == 0
    status = command("status", "--json", "--lake", str(tmp_path / "lake")).json()
    assert status["balanced"]
    assert status["kept"] == 20_000


def is_spark(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:  # it has just ended
        return False
    name = "org.apache.spark.deploy.SparkSubmit"  # which its launcher, a Java too, has further back
    return name in words and "org.apache.spark.launcher.Main" not in words and "java" in words[0]


def started(*words: str) -> "subprocess.Popen[str]":
    """The command as a shell's foreground job: Ctrl-C there reaches it and all that it has started."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
