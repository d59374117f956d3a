"""How a job ends: one line for a fault, an exit code, and no secret in either."""

import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipelines.errors import ConfigError, EmbedlakeError, InputError
from pipelines.lake.config import LakeConfig
from pipelines.lake.faults import explain
from pipelines.redact import RedactingFilter, redact

EXIT_FAULT, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which takes the same way out as Ctrl-C."""


@contextmanager
def guarded(debug: bool, lake: LakeConfig | None = None) -> Iterator[None]:
    """Runs a job's body; whatever it raises becomes one line on stderr and an exit code.

    Args:
        debug: Print the traceback too.
        lake: Tells what a fault of the catalogue or object store is about.

    Raises:
        SystemExit: 1 for a fault, 2 for a wrong setting or input, 130 for Ctrl-C, 143 for SIGTERM.
    """
    quiet_logs(debug)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        with _flushed():
            yield
    except _Terminated:
        _say("stopped: what was committed is kept; run the same command to go on")
        _leave(EXIT_TERMINATED, debug)
    except KeyboardInterrupt:
        _say("interrupted: what was committed is kept; run the same command to go on")
        _leave(EXIT_INTERRUPTED, debug)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # for what Python flushes at its end
            raise SystemExit(EXIT_FAULT) from None
        known = error if isinstance(error, EmbedlakeError) else _explained(error, lake)
        if known is not None:
            _say(f"error: {known}")
            _leave(EXIT_USAGE if isinstance(known, ConfigError | InputError) else EXIT_FAULT, debug)
        first = next((line for line in str(error).splitlines() if line.strip()), "no message")
        reason = redact(first.strip())[:300]  # redacted whole: half a secret would not be known
        _say(f"error: unexpected {type(error).__name__}: {reason}. Run again with --debug for more")
        _leave(EXIT_FAULT, debug)
    finally:
        signal.signal(signal.SIGTERM, previous)


def quiet_logs(debug: bool) -> None:
    """Only errors of libraries reach the terminal, without credentials; with `debug`, all from INFO up."""
    if not debug:  # the hub's client logs each of its tries, and raises what came of the last
        os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, RedactingFilter) for known in handler.filters):
            handler.addFilter(RedactingFilter())
            if not debug:
                handler.addFilter(_told_by_py4j_besides)


def _told_by_py4j_besides(record: logging.LogRecord) -> bool:
    """False for what py4j logs, on the root logger too: tracebacks of what it raises besides."""
    return not (record.name.startswith("py4j") or (record.name == "root" and record.module == "java_gateway"))


@contextmanager
def _flushed() -> Iterator[None]:
    """Writes out what was printed while a fault of it can still be told, not when Python ends."""
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _has_no_reader() -> bool:
    """Whether it is stdout that is broken, as by `| head`, and not some other pipe."""
    poll = select.poll()
    try:
        poll.register(sys.stdout, select.POLLOUT)
    except (OSError, ValueError):  # it is no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _explained(error: Exception, lake: LakeConfig | None) -> EmbedlakeError | None:
    return None if lake is None else explain(error, lake)


def _say(line: str) -> None:
    print(redact(" ".join(line.split())), file=sys.stderr)  # noqa: T201 - the job's last word, rich or not


def _leave(code: int, debug: bool) -> None:
    if debug:
        print(redact(traceback.format_exc()), file=sys.stderr)  # noqa: T201 - as above
    raise SystemExit(code) from None


def _terminate(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise _Terminated
