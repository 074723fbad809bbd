"""How far long work is, on stderr: a bar on a terminal, and anywhere else a line every ten seconds."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from certimetric.base.wording import span

EVERY = 10.0  # seconds from one line to the next

Advance = Callable[[bool], None]


@contextlib.contextmanager
def progress_bar(shown: bool, total: int | None, done: int = 0, *, name: str = "audit") -> Iterator[Advance]:
    """Tell on stderr how far work is, if that is to be shown; gives a function that counts one task, failed or not.

    Without a terminal a line is told every ten seconds, by a thread, so that a single long task is no silence. A
    ``total`` of None is work that is not made of tasks. Where kernels have to be compiled first, a line says so.
    """
    if not shown:
        yield lambda failed: None
    elif sys.stderr.isatty():
        with _bar(total, done, name) as advance, _told_of_compilation():
            yield advance
    else:
        lines = Lines(name, total, done)
        ended = threading.Event()
        thread = threading.Thread(target=lines.tell_until, args=(lambda: ended.wait(EVERY), sys.stderr), daemon=True)
        thread.start()
        try:
            with _told_of_compilation():
                yield lines.advance
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def _told_of_compilation() -> Iterator[None]:
    """Say so when the first kernel is compiled, which takes seconds; they are kept on disk."""
    from numba.core import event

    told: list[object] = []

    class First(event.Listener):
        def on_start(self, event: object) -> None:
            say(not told, "compiling what is not compiled yet, once: this may take half a minute")
            told.append(event)

        def on_end(self, event: object) -> None:
            pass

    with event.install_listener("numba:compile", First()):
        yield


@dataclass
class Lines:
    """What lines say of work: how much of it is done, how long it has taken, and how long the rest would take.

    Examples
    --------
    >>> now = iter([0.0, 90.0])
    >>> lines = Lines("audit", 35, 5, clock=lambda: next(now))
    >>> lines.advance(False), lines.advance(True)
    (None, None)
    >>> lines.line()
    'audit: 7 of 35, 1 failed, 1 min 30 s, about 21 min 0 s left'
    """

    name: str
    total: int | None
    done: int = 0
    failed: int = 0
    clock: Callable[[], float] = time.monotonic
    _start: float = field(init=False)
    _first: int = field(init=False)

    def __post_init__(self) -> None:
        self._start, self._first = self.clock(), self.done

    def advance(self, failed: bool) -> None:
        """Count one task."""
        self.done += 1
        self.failed += failed

    def line(self) -> str:
        """What there is to say now."""
        seconds = self.clock() - self._start
        parts = [] if self.total is None else [f"{self.done} of {self.total}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts.append(span(seconds))
        new = self.done - self._first
        if self.total is not None and new > 0 and self.done < self.total:
            parts.append(f"about {span(seconds * (self.total - self.done) / new)} left")
        return f"{self.name}: {', '.join(parts)}"

    def tell_until(self, ended: Callable[[], bool], stream: TextIO) -> None:
        """Write a line every time that ``ended``, which waits, says that the work has not."""
        while not ended():
            say(True, self.line(), stream)


def say(shown: bool, text: str, stream: TextIO | None = None) -> None:
    """Tell a line, on stderr by default, if it is to be shown."""
    if shown:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more: no reason to end the work
            print(f"certimetric: {text}", file=sys.stderr if stream is None else stream, flush=True)


@contextlib.contextmanager
def _bar(total: int | None, done: int, name: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    counts = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"))
    left = (TextColumn("left"), TimeRemainingColumn())
    columns = (BarColumn(), TimeElapsedColumn()) if total is None else (*counts, TimeElapsedColumn(), *left)
    failures = 0
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total, completed=done, failed="")

        def advance(failed: bool) -> None:
            nonlocal failures
            failures += failed
            bar.update(task, advance=1, failed=f"[red]{failures} failed[/red]" if failures else "")

        yield advance
