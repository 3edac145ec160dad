"""Label columns whose values are any number of classes: lists of them, or strings with a separator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.data.labels import Labels
from compress.data.table import Table
from compress.errors import InputError


def read_label_sets(tables: Mapping[str, Table], column: str, separator: str | None) -> Labels:
    """Turn the label column of every split into sorted lists of class ids.

    Lists hold class names, or ids where the column has class names, or are 0 and 1 for each class. An empty list
    is a row of no class.

    Args:
        tables: the splits; `train` among them.
        column: the label column.
        separator: what stands between classes, where values are strings.

    Raises:
        InputError: a value is no list, or a split has a class that train lacks.
    """
    train = tables["train"]
    raw = {split: _lists(table, column, separator) for split, table in tables.items()}
    everything = [values for rows in raw.values() for values in rows]
    names = train.class_names.get(column, ())
    if _are_flags(everything):
        width = len(everything[0])
        if names and len(names) != width:
            raise InputError(
                f"column {column!r} has {width} flags a row, but {len(names)} class names", place=train.place
            )
        names = names or tuple(map(str, range(width)))
        raw = {split: [_set_flags(row) for row in rows] for split, rows in raw.items()}
    elif not names:
        distinct = sorted({value for values in everything for value in values}, key=_order)
        names = tuple(map(str, distinct))
        ids = {value: number for number, value in enumerate(distinct)}
        raw = {split: [[ids[value] for value in row] for row in rows] for split, rows in raw.items()}
    values = {split: [sorted(set(row)) for row in rows] for split, rows in raw.items()}
    _check(tables, values, names, column)
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    mean = sum(map(len, values["train"])) / len(values["train"])
    return Labels(values, names, (f"any of {len(names)} classes, {mean:.2f} a row: {shown}",))


def _lists(table: Table, column: str, separator: str | None) -> list[list[Any]]:
    rows = []
    for row, value in enumerate(table.column(column)):
        if separator and (value is None or isinstance(value, str)):
            value = [part.strip() for part in (value or "").split(separator) if part.strip()]
        if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
            raise InputError(
                f"column {column!r} holds {value!r} where a list of classes should be ({table.where([row])})",
                place=table.place,
                remedy="Give a list in every row, [] for none, or say what stands between classes (separator)",
            )
        rows.append(value)
    return rows


def _are_flags(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether rows are a 0 or a 1 for each class: all equally long, and some with a class twice otherwise."""
    width = len(rows[0])
    flags = all(len(row) == width and all(value in (0, 1) for value in row) for row in rows)
    return flags and width > 1 and any(len(set(row)) < width for row in rows)


def _set_flags(row: Sequence[Any]) -> list[int]:
    return [number for number, value in enumerate(row) if value]


def _order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _check(
    tables: Mapping[str, Table], values: Mapping[str, list[list[int]]], names: Sequence[str], column: str
) -> None:
    train = {number for row in values["train"] for number in row}
    if not train:
        raise InputError(
            "no training row has a class", place=tables["train"].place, remedy=f"Check the column {column!r}"
        )
    for split, table in tables.items():
        unseen = [row for row, found in enumerate(values[split]) if not set(found) <= train]
        if unseen:
            missing = {number for row in unseen for number in values[split][row]} - train
            raise InputError(
                f"{len(unseen)} rows have a class that train never shows: "
                f"{', '.join([names[number] for number in sorted(missing)][:8])} "
                f"({table.where(unseen)})",
                place=table.place,
                remedy="Add training rows of that class, or take those rows out",
            )
