"""What the user sees while work runs: progress bars and notes, all on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compress.processes import is_first

console = Console(stderr=True, highlight=False, quiet=not is_first())


def silence() -> None:
    """Show nothing from here on but errors."""
    console.quiet = True


def say(message: str) -> None:
    """Print one line on stderr."""
    console.print(message, markup=False, soft_wrap=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left; yield the function that advances it by a number of units.

    On a terminal the bar moves; elsewhere (a CI log) one line says what was done and how long it took.
    """
    if not console.is_terminal:
        start = time.monotonic()
        yield lambda count: None
        say(f"  {title}: {total:,} in {time.monotonic() - start:.1f} s")
        return
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
