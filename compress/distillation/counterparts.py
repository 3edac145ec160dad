"""Tokens of two tokenizers that stand for the same characters of a text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from compress.tasks.spans import InputSpans, Span

NOWHERE = -1
SAME, BEGINS, ENDS, INPUT = "same", "begins", "ends", "input"
_FIRST, _LAST = (-1, 0, 0), (-1, 1, 1)  # the spans of special tokens at the ends
RULES = 2  # raised when other tokens become counterparts, so that what was kept of them is left alone

# For every token of an input the other one's token with the same characters (`SAME`), with the same first one
# (`BEGINS`) and with the same last one (`ENDS`), `NOWHERE` without; and which of the others' inputs that is (`INPUT`).
Counterparts = dict[str, list[int]]


def counterparts(ours: Sequence[InputSpans], theirs: Sequence[InputSpans], start: int) -> list[Counterparts]:
    """Find for each of our tokens theirs.

    A special token in front of all text answers to the other's there, and so does one behind all text, whatever
    they are called. Of several windows that they read a text in, that one counts which has most beginnings in common
    with ours.

    Args:
        ours: our inputs.
        theirs: of the same texts.
        start: number of their first input.
    """
    by_example: dict[int, list[tuple[int, _Places]]] = defaultdict(list)
    for number, given in enumerate(theirs, start):
        by_example[given.example].append((number, _Places(given)))
    return [_row(given, by_example[given.example]) for given in ours]


class _Places:
    """Where an input has a token of these characters, with this first one, with this last one."""

    def __init__(self, given: InputSpans) -> None:
        spans = _comparable(given.spans)
        self.same = {span: index for index, span in spans}
        self.begins = {span[:2]: index for index, span in reversed(spans)}
        self.ends = {(span[0], span[2]): index for index, span in spans}


def _comparable(spans: Sequence[Span | None]) -> list[tuple[int, Span]]:
    """Return (token, span) of tokens of characters, and of special ones at the ends; others have no counterpart."""
    ends = {len(spans) - 1: _LAST, 0: _FIRST}
    found = [(index, span or ends.get(index)) for index, span in enumerate(spans)]
    return [(index, span) for index, span in found if span is not None and (span[0] < 0 or span[1] < span[2])]


def _row(given: InputSpans, candidates: Sequence[tuple[int, _Places]]) -> Counterparts:
    spans = _comparable(given.spans)
    number, there = candidates[0]
    if len(candidates) > 1:
        begins = {span[:2] for _, span in spans}
        number, there = max(candidates, key=lambda each: len(begins & each[1].begins.keys()))
    row = {name: [NOWHERE] * len(given.spans) for name in (SAME, BEGINS, ENDS)}
    for index, span in spans:
        row[SAME][index] = there.same.get(span, NOWHERE)
        row[BEGINS][index] = there.begins.get(span[:2], NOWHERE)
        row[ENDS][index] = there.ends.get((span[0], span[2]), NOWHERE)
    return row | {INPUT: [number] * len(given.spans)}
