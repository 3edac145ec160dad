"""Which columns are the text, the second text and the label: by name first, then by what they hold."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.data.config import DataConfig
from compress.data.table import Table
from compress.errors import InputError

_LABEL_NAMES = (
    "label labels class category target score sentiment rating stars similarity gold_label topic intent "
    "emotion y is_duplicate similarity_score genres topics"
).split()
_TEXT_NAMES = (
    "text sentence review content document body comment tweet article message utterance question query"
).split()
_PAIRS = (
    ("text", "text_pair"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "answer"),
    ("query", "passage"),
    ("query", "document"),
    ("sentence", "hypothesis"),
)
_ID_NAME = re.compile(r"|.*\bunnamed.*|(.*_)?(id|idx|index|guid|uid|uuid|pairid)|__index_level_\d+__")
_NUMBERED = (("1", "2"), ("_1", "_2"), ("a", "b"), ("_a", "_b"), ("A", "B"))
_SAMPLE = 2_000  # rows looked at to tell what a column holds
_FEW = 30  # distinct values up to which a column may be classes
_CLEARLY_LONGER = 2.0  # times the next column's mean length, to be taken for the text


@dataclass(frozen=True)
class Columns:
    """The chosen column names, and a sentence for each that was detected."""

    text: str
    text_pair: str | None
    label: str
    notes: tuple[str, ...]


def detect_columns(table: Table, config: DataConfig) -> Columns:
    """Choose the columns, keeping to what the config names.

    Args:
        table: the train split.
        config: its `text`, `text_pair` and `label`, where set, are taken as they are.

    Raises:
        InputError: a named column does not exist, or the choice is not clear; the message names the
            candidates and the keys that settle it.
    """
    given = [name for name in (config.text, config.text_pair, config.label) if name is not None]
    for name in given:
        table.column(name)
    if len(set(given)) < len(given):
        raise InputError("text, text_pair and label must be different columns", place=table.place)
    notes: list[str] = []
    label = config.label
    text, pair = config.text, config.text_pair
    taken = [*given, *filter(None, [config.slice_by])]
    if text is None:
        strings = [name for name in table.columns if name not in taken and _is_text(table, name)]
    if label is None:
        label, why = _label(table, taken)
        notes.append(f"label column {label!r} ({why})")
    if text is None:
        strings = [name for name in strings if name != label]
        text, found_pair, why = _texts(table, strings, pair)
        found = f"text pair {text!r}, {found_pair!r}" if found_pair else f"text column {text!r}"
        notes.append(f"{found} ({why})")
        pair = pair or found_pair
    return Columns(text, pair, label, tuple(notes))


def detect_texts(table: Table) -> tuple[str, str | None]:
    """Choose the columns of a table that is read for its texts alone.

    Args:
        table: its first rows suffice.

    Returns:
        The text column, and the second one where two are named as pairs are.

    Raises:
        InputError: the choice is not clear.
    """
    try:
        text, pair, _ = _texts(table, text_names(table), None)
    except InputError as error:
        raise InputError(
            error.cause,
            place=table.place,
            remedy=f"Name the column text, or two text and text_pair. There are: {', '.join(table.columns)}",
        ) from error
    return text, pair


def text_names(table: Table) -> list[str]:
    """Return the columns that may be text."""
    return [name for name in table.columns if _is_text(table, name)]


def text_column(table: Table, config: DataConfig) -> tuple[str, str]:
    """Choose a single text column, whatever else there is; return it and a sentence on how.

    Raises:
        InputError: the named column does not exist, or the choice is not clear.
    """
    if config.text is not None:
        table.column(config.text)
        return config.text, f"text column {config.text!r}"
    text, _, why = _texts(table, text_names(table), "")
    return text, f"text column {text!r} ({why})"


def _label(table: Table, taken: Sequence[str]) -> tuple[str, str]:
    free = [name for name in table.columns if name not in taken]
    by_name = [name for wanted in _LABEL_NAMES for name in free if name.lower() == wanted]
    if by_name and (len(by_name) == 1 or by_name[0].lower() in {"label", "labels"}):
        return by_name[0], "by its name"
    few = by_name or [name for name in free if _is_category(table, name) or _is_list(table, name)]
    if len(few) == 1:
        return few[0], "lists of classes" if _is_list(table, few[0]) else "few distinct values"
    candidates = ", ".join(few)
    cause = f"more than one column may be the label: {candidates}" if few else "no column looks like a label"
    raise InputError(cause, place=table.place, remedy=_say("label", table))


def _texts(table: Table, strings: list[str], given_pair: str | None) -> tuple[str, str | None, str]:
    """(text, text_pair or None, why)."""
    if given_pair is None:
        pairs = _pairs(strings)
        if len(pairs) == 1:
            return *pairs[0], "by their names"
    by_name = [name for wanted in _TEXT_NAMES for name in strings if name.lower() == wanted]
    if len(strings) == 1:
        return strings[0], None, "the only column of text"
    if by_name and (len(by_name) == 1 or by_name[0].lower() == "text"):
        return by_name[0], None, "by its name"
    lengths = sorted(((_mean_length(table, name), name) for name in strings), reverse=True)
    if len(lengths) > 1 and lengths[0][0] >= _CLEARLY_LONGER * lengths[1][0]:
        return lengths[0][1], None, "longest strings"
    candidates = ", ".join(strings)
    cause = f"more than one column may be the text: {candidates}" if strings else "no column holds text"
    raise InputError(cause, place=table.place, remedy=_say("text", table))


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    """Columns named as pairs are: `sentence1`/`sentence2`, `text_a`/`text_b`, `premise`/`hypothesis`."""
    lower = {name.lower(): name for name in names}
    found = [(lower[a], lower[b]) for a, b in _PAIRS if a in lower and b in lower]
    for name in names:
        for first, second in _NUMBERED:
            if name.endswith(first) and name[: -len(first)] + second in names:
                found.append((name, name[: -len(first)] + second))
    return list(dict.fromkeys(found))


def _say(key: str, table: Table) -> str:
    header = "" if table.typed else " (the first line is read as the header)"
    return f"Set {key}: to one of its columns in the recipe's data{header}: {', '.join(table.columns)}"


def _sample(table: Table, name: str) -> list[Any]:
    """Values spread over the whole column, without the missing ones."""
    values = table.columns[name]
    step = max(1, math.ceil(len(values) / _SAMPLE))
    return [value for value in values[::step] if value is not None]


def _is_text(table: Table, name: str) -> bool:
    """Strings that are neither numbers nor ids nor, unless the name says text, a handful of repeated short words."""
    values = _sample(table, name)
    if not values or not all(isinstance(value, str) for value in values) or _ID_NAME.fullmatch(name.lower()):
        return False
    if not table.typed and all(_is_number(value) for value in values):
        return False
    distinct = len(set(values))
    spaced = sum(" " in value for value in values) / len(values)
    named = name.lower() in ("text", "text_pair")
    return named or spaced > 0.5 or distinct > max(2, len(values) // 2)


def _is_list(table: Table, name: str) -> bool:
    """Lists of classes."""
    values = _sample(table, name)
    return bool(values) and all(isinstance(value, list) for value in values)


def _is_category(table: Table, name: str) -> bool:
    """Few distinct, short values, each seen about twice or more."""
    if name in table.class_names:
        return True
    values = _sample(table, name)
    plain = all(isinstance(value, str | bool | int) for value in values)
    if not values or not plain or _ID_NAME.fullmatch(name.lower()):
        return False
    distinct = set(values)
    short = all(len(str(value)) <= 40 for value in distinct)
    return short and 1 < len(distinct) <= _FEW and len(distinct) <= max(2, len(values) // 2)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _mean_length(table: Table, name: str) -> float:
    values = _sample(table, name)
    return sum(len(value) for value in values) / max(1, len(values))
