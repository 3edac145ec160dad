"""Labels in one form for all splits: class ids with names, or scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.data.table import Table
from compress.errors import InputError
from compress.tasks import TaskKind

_MOST_INT_CLASSES = 30  # distinct whole numbers up to which they are taken for classes
_MISSING_WORDS = {"na", "n/a", "nan", "null", "none"}  # missing only where all other values are numbers


@dataclass(frozen=True)
class Labels:
    """Labels of every split, aligned with its rows.

    Args:
        values: class ids (int), scores (float) or lists of class ids by split.
        names: class names by id; empty for scores.
        notes: what was decided.
    """

    values: Mapping[str, Sequence[Any]]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def is_missing(value: Any, class_names: Sequence[str] = ()) -> bool:
    """No label: None, NaN, an empty string, or the -1 that published data with class names use for it."""
    if class_names and value == -1:
        return True
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == ""


def read_labels(tables: Mapping[str, Table], column: str, task: TaskKind | None) -> Labels:
    """Turn the label column of every split into class ids or scores.

    Strings become sorted class names (numerically where all are whole numbers), booleans
    `("false", "true")`, `ClassLabel` names are kept as they are, numbers with a fraction are scores.

    Args:
        tables: the splits; `train` among them.
        column: the label column.
        task: None decides by the values.

    Raises:
        InputError: labels are missing, of mixed kinds, infinite, of one class only, or a split has a class
            that train lacks.
    """
    train = tables["train"]
    names = train.class_names.get(column, ())
    raw = {split: _numbers_if_all(table.column(column)) for split, table in tables.items()}
    for split, table in tables.items():
        gone = [row for row, value in enumerate(raw[split]) if is_missing(value, names)]
        if gone:
            raise InputError(
                f"{len(gone)} of {table.rows} rows have no label in column {column!r} ({table.where(gone)})",
                place=table.place,
                remedy="Label those rows or delete them",
            )
    everything = [value for values in raw.values() for value in values]
    if names:
        if task == "regression":
            raise InputError(
                f"column {column!r} holds named classes, so the task cannot be regression", place=train.place
            )
        labels = Labels(raw, names, (f"classes: {', '.join(names[:20])}",))
    elif task == "regression" or (task is None and _are_scores(everything, column, train.place)):
        return _scores(tables, raw, column)
    else:
        labels = _classes(raw, everything, column, train.place)
    _check_classes(tables, labels, column)
    return labels


def _number(value: Any) -> Any:
    """A string as the number it spells, whole or not; anything else as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in _MISSING_WORDS:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def _numbers_if_all(values: Sequence[Any]) -> list[Any]:
    """The values with strings read as numbers, if every one of them is a number; else as they are."""
    try:
        numbers = [value if is_missing(value) else _number(value) for value in values]
    except ValueError:
        return list(values)
    return numbers if any(value is not None for value in numbers) else list(values)


def _are_scores(values: Sequence[Any], column: str, place: str) -> bool:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        return False
    if any(not float(value).is_integer() for value in numbers):
        return True
    distinct = len(set(numbers))
    if distinct <= _MOST_INT_CLASSES:
        return False
    raise InputError(
        f"column {column!r} holds {distinct} different whole numbers: classes or scores?",
        place=place,
        remedy="Set task: classification or task: regression in the recipe's data",
    )


def _scores(tables: Mapping[str, Table], raw: Mapping[str, Sequence[Any]], column: str) -> Labels:
    for split, table in tables.items():
        wrong = [
            row
            for row, value in enumerate(raw[split])
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value)
        ]
        if wrong:
            value = raw[split][wrong[0]]
            raise InputError(
                f"{len(wrong)} values of column {column!r} are not finite numbers, "
                f"first {value!r} ({table.where(wrong)})",
                place=table.place,
                remedy="A regression target must be a number in every row",
            )
    values = {split: [float(value) for value in column_values] for split, column_values in raw.items()}
    low, high = min(map(min, values.values())), max(map(max, values.values()))
    if low == high:
        raise InputError(f"every row has the same score {low:g}", place=tables["train"].place)
    return Labels(values, (), (f"regression: scores from {low:g} to {high:g}",))


def _classes(raw: Mapping[str, Sequence[Any]], values: Sequence[Any], column: str, place: str) -> Labels:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        distinct: list[Any] = [False, True]
        names: tuple[str, ...] = ("false", "true")
    elif kinds == {str}:
        distinct = sorted(set(values))
        names = tuple(distinct)
        if len(distinct) > max(_MOST_INT_CLASSES, len(values) // 2):
            raise InputError(
                f"column {column!r} has {len(distinct)} different values in {len(values)} rows: not classes",
                place=place,
                remedy="Set label: to the column that holds the class",
            )
    elif kinds <= {int, float} and all(float(value).is_integer() for value in values):
        distinct = sorted(set(values))
        names = tuple(str(int(value)) for value in distinct)
    else:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(
            f"column {column!r} holds no classes: its values are {found}",
            place=place,
            remedy="A class is a string, a whole number or true/false, of one kind in all rows; rows of several "
            "classes are task: multilabel",
        )
    ids = {value: number for number, value in enumerate(distinct)}
    encoded = {split: [ids[value] for value in column_values] for split, column_values in raw.items()}
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return Labels(encoded, names, (f"{len(names)} classes: {shown}",))


def _check_classes(tables: Mapping[str, Table], labels: Labels, column: str) -> None:
    train = Counter(labels.values["train"])
    if len(train) < 2:
        only = labels.names[int(next(iter(train)))]
        raise InputError(
            f"every training row has the same class, {only!r}",
            place=tables["train"].place,
            remedy=f"There is nothing to learn; check the label column ({column!r})",
        )
    for split, table in tables.items():
        unseen = [row for row, value in enumerate(labels.values[split]) if value not in train]
        if unseen:
            names = sorted({labels.names[int(labels.values[split][row])] for row in unseen})
            raise InputError(
                f"{len(unseen)} rows have a class that train never shows: {', '.join(names[:8])} "
                f"({table.where(unseen)})",
                place=table.place,
                remedy="Add training rows of that class, or take those rows out",
            )
