import io
import re
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jobs import console
from jobs.console import ConsoleProgress, amount


def plain(width: int = 40, quiet_seconds: float = 0) -> tuple[ConsoleProgress, io.StringIO]:
    """A console that is no terminal, and narrow."""
    stream = io.StringIO()
    return ConsoleProgress(Console(file=stream, width=width), quiet_seconds), stream


def terminal() -> tuple[ConsoleProgress, io.StringIO]:
    stream = io.StringIO()
    return ConsoleProgress(Console(file=stream, force_terminal=True, width=120, color_system=None)), stream


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(console, "monotonic", made)
    return made


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "rows", "0 rows"),
        (1234567, "rows", "1,234,567 rows"),
        (12.9, "files", "12 files"),
        (0, "bytes", "0 B"),
        (1023, "bytes", "1023 B"),
        (1024, "bytes", "1.0 KiB"),
        (1536, "bytes", "1.5 KiB"),
        (1024**2 - 1, "bytes", "1.0 MiB"),
        (5 * 1024**3, "bytes", "5.0 GiB"),
        (3 * 1024**4, "bytes", "3.0 TiB"),
        (5000 * 1024**4, "bytes", "5000.0 TiB"),
    ],
)
def test_amounts_are_for_people(number: float, unit: str, text: str) -> None:
    assert amount(number, unit) == text


@given(st.integers(0, 2**50 - 2**40))
def test_bytes_are_told_to_a_tenth_in_a_unit_that_keeps_the_number_small(size: int) -> None:
    number, unit = amount(size, "bytes").split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
    assert float(number) < 1024
    assert abs(float(number) * factor - size) <= 0.051 * factor


@given(st.integers(0, 10**15), st.sampled_from(["rows", "files", "tasks"]))
def test_counts_lose_no_digit(number: int, unit: str) -> None:
    text = amount(number, unit)
    assert text == f"{text.split()[0]} {unit}"
    assert int(text.split()[0].replace(",", "")) == number


def test_elsewhere_than_on_a_terminal_a_step_is_a_line_at_its_start_and_one_at_its_end(clock: Clock) -> None:
    progress, stream = plain()
    with progress.step("embedding", 12345, "rows") as step:
        step.done(5000)
        clock.now += 3.25
    assert stream.getvalue() == "embedding: 12,345 rows\nembedding: done in 3.2 s\n"


def test_a_short_step_is_not_told(clock: Clock) -> None:
    progress, stream = plain(quiet_seconds=3600)
    with progress.step("embedding", 12345, "rows") as step:
        step.done(5000)
        clock.now += 3599
    assert stream.getvalue() == ""
    with progress.step("embedding", 12345, "rows"):
        clock.now += 3600
    assert stream.getvalue() == "embedding: 12,345 rows\nembedding: done in 3600.0 s\n"


def test_a_step_that_tells_nothing_of_itself_is_told_while_it_lasts() -> None:
    told = Event()
    stream = _Waiting(told)
    progress = ConsoleProgress(Console(file=stream, width=40), quiet_seconds=0.01)
    with progress.step("embedding", 12345, "rows"):
        assert told.wait(60)
        assert stream.getvalue() == "embedding: 12,345 rows\n"


class _Waiting(io.StringIO):
    def __init__(self, told: Event) -> None:
        super().__init__()
        self._told = told

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().endswith("\n"):
            self._told.set()
        return written


def test_a_step_without_a_total_tells_none(clock: Clock) -> None:
    progress, stream = plain()
    with progress.step("reading", None, "files") as step:
        clock.now += 20
        step.done(7)
    assert stream.getvalue() == "reading\nreading: 7 files\nreading: done in 20.0 s\n"


def test_in_between_a_line_comes_at_most_every_ten_seconds_with_the_time_left(clock: Clock) -> None:
    progress, stream = plain()
    with progress.step("writing", 4 * 1024**2, "bytes") as step:
        for quarter in range(1, 5):
            clock.now += 6
            step.done(quarter * 1024**2)
    assert stream.getvalue().splitlines() == [
        "writing: 4.0 MiB",
        "writing: 2.0 MiB of 4.0 MiB, 12 s left",
        "writing: 4.0 MiB of 4.0 MiB, 0 s left",
        "writing: done in 24.0 s",
    ]


def test_nothing_done_yet_tells_no_time_left(clock: Clock) -> None:
    progress, stream = plain()
    with progress.step("embedding", 10, "rows") as step:
        clock.now += 60
        step.done(0)
    assert "left" not in stream.getvalue()


def test_more_than_the_total_leaves_no_time_below_zero(clock: Clock) -> None:
    progress, stream = plain()
    with progress.step("embedding", 10, "rows") as step:
        step.done(2)
        clock.now += 60
        step.done(20)
    assert "embedding: 20 rows of 10, 0 s left\n" in stream.getvalue()


def test_the_time_left_does_not_count_the_start_of_workers(clock: Clock) -> None:
    progress, stream = plain()
    with progress.step("embedding", 100, "rows") as step:
        clock.now += 1000
        step.done(1)
        clock.now += 20
        step.done(21)
    assert "embedding: 21 rows of 100, 79 s left\n" in stream.getvalue()


def test_a_label_with_of_in_it_stays_whole() -> None:
    progress, stream = plain()
    with progress.step("list of files", 3, "files"):
        pass
    assert stream.getvalue().startswith("list of files: 3 files\n")


@pytest.mark.parametrize("make", [plain, terminal])
def test_a_step_that_raises_is_not_told_done_and_its_error_passes(make: type) -> None:
    progress, stream = make()
    error = ValueError("broken")

    def fail() -> None:
        with progress.step("embedding", 10, "rows") as step:
            step.done(4)
            raise error

    with pytest.raises(ValueError, match="broken") as caught:
        fail()
    assert caught.value is error
    assert "done" not in stream.getvalue()
    assert "100%" not in stream.getvalue()


def test_a_line_is_never_wrapped_and_its_brackets_are_no_markup() -> None:
    progress, stream = plain(width=20)
    line = "12 rows of [bold]s3://lake/raw/part-00000.parquet[/] and 3 more files :smile: " + "x" * 200
    progress.say(line)
    assert stream.getvalue() == line + "\n"


@pytest.mark.parametrize("make", [plain, terminal])
def test_a_line_holds_no_secret(make: type) -> None:
    progress, stream = make()
    progress.say("reading postgresql://me:hunter2@db/lake")
    assert "reading postgresql://***@db/lake" in stream.getvalue()


def shown(stream: io.StringIO) -> str:
    """The last drawing of the bar."""
    return re.split(r"\r|\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).strip("\r\n"))[-1]


def test_on_a_terminal_a_step_is_a_bar_with_what_is_done_of_the_total() -> None:
    progress, stream = terminal()
    with progress.step("embedding", 12345, "rows") as step:
        step.done(12345)
    assert shown(stream).startswith("embedding")
    assert "100%" in shown(stream)
    assert "12,345 of 12,345 rows" in shown(stream)


def test_on_a_terminal_bytes_are_told_in_their_units() -> None:
    progress, stream = terminal()
    with progress.step("writing", 4 * 1024**2, "bytes") as step:
        step.done(1024**2)
    assert "1.0 MiB of 4.0 MiB" in shown(stream)


def test_on_a_terminal_a_step_without_a_total_tells_what_is_done() -> None:
    progress, stream = terminal()
    with progress.step("reading", None, "files") as step:
        step.done(7)
    assert "7 files" in shown(stream)
    assert "left" not in shown(stream)
    assert "%" not in shown(stream)


def test_steps_may_follow_each_other_and_lines_stand_between_them() -> None:
    for progress, stream in (plain(), terminal()):
        for label in ("first", "second"):
            with progress.step(label, 1, "files") as step:
                step.done(1)
            progress.say(f"after the {label}")
        text = stream.getvalue()
        places = [text.index(word) for word in ("first", "after the first", "second", "after the second")]
        assert places == sorted(places)
