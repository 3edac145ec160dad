"""Numbers that change while training goes on."""

from __future__ import annotations

from typing import Annotated

from compress.either import either

Schedule = Annotated[float | tuple[float, float], either("a number, or two, [from, to]")]
"""A number, or where it starts and ends: `[1, 0.3]` goes from 1 to 0.3 in a straight line over the training."""


def value_at(schedule: Schedule, progress: float) -> float:
    """Return the number at `progress`, from 0 at the first step to 1 at the last."""
    if isinstance(schedule, tuple):
        start, end = schedule
        return start + (end - start) * min(max(progress, 0.0), 1.0)
    return schedule


def ends(schedule: Schedule) -> tuple[float, float]:
    """Return the first and the last number."""
    return schedule if isinstance(schedule, tuple) else (schedule, schedule)
