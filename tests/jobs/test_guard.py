import io
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.guard import guarded
from pipelines.errors import (
    CatalogError,
    CommitError,
    ConfigError,
    EmbedlakeError,
    EnvironmentFault,
    InputError,
    ModelError,
    StorageError,
)
from pipelines.lake import LakeConfig
from pipelines.redact import RedactingFilter

ROOT = Path(__file__).resolve().parents[2]
LAKE = LakeConfig(dir=Path("lake"))


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    root, level = logging.getLogger(), logging.getLogger().level
    before = {handler: list(handler.filters) for handler in root.handlers}
    yield
    root.setLevel(level)
    for handler, filters in before.items():
        handler.filters = filters


def end(error: BaseException, debug: bool = False, lake: LakeConfig | None = None) -> object:
    """The exit code of a guarded body that raises."""
    with pytest.raises(SystemExit) as caught, guarded(debug, lake):
        raise error
    return caught.value.code


def run(body: str, *options: str) -> subprocess.Popen[str]:
    """Starts a process of its own with a guarded body."""
    script = "import logging, signal, sys\nfrom jobs.guard import guarded\n" + body
    return subprocess.Popen(
        [sys.executable, "-c", script, *options],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"AWS_SECRET_ACCESS_KEY": "hunter2hunter2", "PYTHONUNBUFFERED": ""},
    )


def test_a_body_that_ends_well_ends_well_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded(debug=False):
        sys.stdout.write("result\n")
    assert capsys.readouterr() == ("result\n", "")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, 2),
        (InputError, 2),
        (EmbedlakeError, 1),
        (CatalogError, 1),
        (StorageError, 1),
        (CommitError, 1),
        (ModelError, 1),
        (EnvironmentFault, 1),
    ],
)
def test_a_domain_error_is_one_line_and_an_exit_code(
    kind: type[EmbedlakeError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(kind("something\nis wrong", "Mend it")) == code
    assert capsys.readouterr() == ("", "error: something is wrong. Mend it\n")


def test_a_fault_of_the_lake_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(sqlite3.OperationalError("unable to open database file"), lake=LAKE) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: the catalogue sqlite:///")
    assert "cannot be used (unable to open database file). Check that" in line
    assert line.count("\n") == 1


def test_an_unexpected_error_is_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for lake in (None, LAKE):
        assert end(KeyError("n_tokens"), lake=lake) == 1
        assert capsys.readouterr() == (
            "",
            "error: unexpected KeyError: 'n_tokens'. Run again with --debug for more\n",
        )


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "no message"), ("\n\n  first\nsecond", "first"), ("x" * 1000, "x" * 300)],
)
def test_of_a_long_message_the_first_line_is_told(
    text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    end(RuntimeError(text))
    assert capsys.readouterr().err == (
        f"error: unexpected RuntimeError: {told}. Run again with --debug for more\n"
    )


def test_debug_prints_the_traceback_too_and_no_secret_in_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    assert end(RuntimeError("got hunter2hunter2\nand password=more-of-it"), debug=True) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "test_guard.py" in shown
    assert "got ***" in shown
    assert "hunter2hunter2" not in shown
    assert "more-of-it" not in shown


@pytest.mark.parametrize("position", [280, 290, 299])
def test_a_secret_is_not_told_in_part_where_the_message_is_cut(
    position: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    end(RuntimeError("x " * (position // 2) + "hunter2hunter2"))
    assert "hunter" not in capsys.readouterr().err


def test_ctrl_c_is_a_word_and_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == (
        "interrupted: what was committed is kept; run the same command to go on\n"
    )


@pytest.mark.parametrize("code", [0, 1, 7, None])
def test_a_body_that_exits_by_itself_keeps_its_code(code: int | None) -> None:
    assert end(SystemExit(code)) == code


def test_nested_guards_tell_a_fault_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, guarded(False), guarded(False, LAKE):
        raise InputError("there is no corpus", "Check the path")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: there is no corpus. Check the path\n"


def test_the_signal_handlers_are_as_they_were_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with guarded(False), guarded(False, LAKE):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    end(RuntimeError())
    assert signal.getsignal(signal.SIGTERM) is before


def test_log_handlers_redact_once_however_often_guarded() -> None:
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        for _ in range(3):
            with guarded(False), guarded(False):
                pass
        assert sum(isinstance(known, RedactingFilter) for known in handler.filters) == 1
        assert len(set(handler.filters)) == len(handler.filters)
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("debug", [False, True])
def test_what_py4j_logs_besides_raising_it_is_for_debugging_alone(debug: bool) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        with guarded(debug):
            for name, path in (("root", "java_gateway.py"), ("py4j.clientserver", "clientserver.py")):
                record = logging.LogRecord(name, logging.ERROR, path, 1, "told besides", None, None)
                logging.getLogger(name).handle(record)
            logging.getLogger("other").error("a fault")
            logging.getLogger().error("another")
        assert stream.getvalue() == "told besides\n" * 2 * debug + "a fault\nanother\n"
    finally:
        logging.getLogger().removeHandler(handler)


WAITING = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
with guarded(False), guarded(False):
    try:
        print("ready", flush=True)
        signal.pause()
    finally:
        print("put away", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGTERM, 143, "stopped: "), (signal.SIGINT, 130, "interrupted: ")]
)
def test_a_signal_ends_a_job_in_order_with_one_line_and_its_code(
    number: signal.Signals, code: int, words: str
) -> None:
    process = run(WAITING)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "put away\n")
    assert err.startswith(words + "what was committed is kept")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "body",
    [
        "    print('a result')",  # smaller than the buffer: only Python's end would write it
        "    print('a result')\n    raise SystemExit(0)",
        "    for line in range(100_000):\n        print(line)",
    ],
)
def test_a_reader_that_leaves_early_ends_the_job_in_silence(body: str) -> None:
    wait = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nprint('ready', flush=True)\n"
    wait += "signal.sigwait([signal.SIGUSR1])\n"  # until its reader has left
    process = run(f"{wait}with guarded(False), guarded(False):\n{body}\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    process.stdout = None
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate()
    assert err == ""
    assert process.returncode == 1


def test_another_broken_pipe_is_told_and_not_taken_for_a_reader_that_left() -> None:
    process = run("with guarded(False):\n    raise BrokenPipeError(32, 'Broken pipe')\n")
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert err.startswith("error: unexpected BrokenPipeError: [Errno 32] Broken pipe")


LOGGING = """
with guarded("--debug" in sys.argv):
    logging.getLogger("library").info("hello from hunter2hunter2")
    logging.getLogger("library").warning("odd")
    logging.getLogger("library").error("s3.secret-access-key=%s", "abcdefgh")
"""


def test_of_the_libraries_logs_only_errors_are_shown_redacted() -> None:
    out, err = run(LOGGING).communicate()
    assert (out, err) == ("", "library: s3.secret-access-key=***\n")


def test_debug_shows_the_libraries_logs_redacted() -> None:
    _, err = run(LOGGING, "--debug").communicate()
    assert err.splitlines() == [
        "library: hello from ***",
        "library: odd",
        "library: s3.secret-access-key=***",
    ]
