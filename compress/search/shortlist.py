"""Which structures are worth making, by the table alone."""

from __future__ import annotations

from dataclasses import dataclass

from compress.display import say
from compress.errors import InputError
from compress.search.limits import Limits, shortfalls
from compress.search.space import Structure, largest, structures
from compress.search.table import Table

_ROOM = 0.1  # by which an estimate has to keep a limit: what is measured has an interval, which has to keep it too
_A_DEPTH, _ALL = 2, 8  # structures that are made


@dataclass(frozen=True)
class Shortlist:
    """The structures to make, the slowest first, and how many were passed over.

    Attributes:
        structures: the largest that are within the limits by estimate.
        beyond: how many are not within.
        smaller: how many are, but are smaller than another in everything, or take more from the limits' room.
    """

    structures: tuple[Structure, ...]
    beyond: int
    smaller: int


def shortlisted(table: Table, whole: Structure, limits: Limits) -> Shortlist:
    """Return the structures worth making; where none is within the limits, the nearest alone.

    Raises:
        InputError: no structure can be made at all.
    """
    within: dict[Structure, float] = {}  # milliseconds of the slowest form that is within
    beyond: dict[Structure, float] = {}  # how far the nearest form is from the limits
    for structure in structures(whole, fewer_rows=limits.max_size_mb is not None):
        expected = [table.estimate(structure, whole, form) for form in table.forms]
        known = [(each.latency_ms, shortfalls(each, limits, -_ROOM)) for each in expected if each is not None]
        kept = [milliseconds for milliseconds, missed in known if not missed]
        if kept:
            within[structure] = max(kept)
        elif known:
            beyond[structure] = min(sum(missed.values()) for _, missed in known)
    if not within and not beyond:
        raise InputError("; ".join(table.left_out), place="search", remedy="No structure can be made.")
    if not within:
        nearest = min(beyond, key=lambda each: beyond[each])
        say(f"no structure is expected within the limits; the nearest is tried: {nearest.of(whole)}")
        return Shortlist((nearest,), len(beyond), 0)
    chosen: list[Structure] = []
    for each in sorted(largest(within), key=lambda each: -within[each]):
        if len(chosen) < _ALL and sum(each.layers == other.layers for other in chosen) < _A_DEPTH:
            chosen.append(each)
    return Shortlist(tuple(chosen), len(beyond), len(within) - len(chosen))
