"""Long work is told of on stderr: by lines where there is no terminal, with what is done and what is left."""

import io
import sys

import pytest

from certimetric.runs import progress
from certimetric.runs.progress import Lines, progress_bar


class Clock:
    """A clock that stands still until it is waited on; after so many waits the work has ended."""

    def __init__(self, waits, seconds=10.0, work=lambda: None):
        self.now, self.waits, self.seconds, self.work = 100.0, waits, seconds, work

    def __call__(self):
        return self.now

    def ended(self):
        if not self.waits:
            return True
        self.waits -= 1
        self.now += self.seconds
        self.work()
        return False


def test_a_line_every_ten_seconds():
    clock = Clock(3)
    lines, stream = Lines("audit", 6, 2, clock=clock), io.StringIO()
    failures = iter([False, True, False])
    clock.work = lambda: lines.advance(next(failures))
    lines.tell_until(clock.ended, stream)
    assert stream.getvalue().splitlines() == [
        "certimetric: audit: 3 of 6, 10 s, about 30 s left",
        "certimetric: audit: 4 of 6, 1 failed, 20 s, about 20 s left",
        "certimetric: audit: 5 of 6, 1 failed, 30 s, about 10 s left",
    ]


def test_nothing_is_foretold_before_a_task_is_done():
    """What an earlier run finished says nothing of how long this one takes."""
    clock, stream = Clock(2, 50.0), io.StringIO()
    Lines("audit", 6, 2, clock=clock).tell_until(clock.ended, stream)
    Lines("fit lmnn", None, clock=clock).tell_until(Clock(1).ended, stream)
    told = stream.getvalue().splitlines()
    assert told == [
        "certimetric: audit: 2 of 6, 50 s",
        "certimetric: audit: 2 of 6, 1 min 40 s",
        "certimetric: fit lmnn: 0 s",
    ]


def test_a_reader_that_left_ends_no_work():
    closed = io.StringIO()
    closed.close()
    clock = Clock(2)
    Lines("audit", 1, clock=clock).tell_until(clock.ended, closed)
    assert clock.waits == 0


@pytest.mark.parametrize("shown", [True, False])
def test_lines_come_while_a_single_task_is_at_work(monkeypatch, shown):
    class Heard(io.StringIO):
        def write(self, text):
            heard.append(text)
            return len(text)

    heard: list[str] = []
    monkeypatch.setattr(sys, "stderr", Heard())
    monkeypatch.setattr(progress, "EVERY", 1e-3)
    with progress_bar(shown, None, name="fit") as advance:
        while shown and not heard:
            progress.time.sleep(1e-3)
        advance(False)
    assert bool(heard) == shown
    told = len(heard)
    progress.time.sleep(5e-3)
    assert len(heard) == told  # the thread has ended with the work


def test_compilation_is_told_once(capsys):
    import numba

    with progress_bar(True, 1):
        for number in (1, 1.0):
            numba.njit(lambda x: x)(number)
    with progress_bar(False, 1):
        numba.njit(lambda x: x)(1)
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "compiling" in line] == [
        "certimetric: compiling what is not compiled yet, once: this may take half a minute"
    ]
