"""Tables of texts or pairs with one label each: a class, several classes, or a score."""

from __future__ import annotations

from collections.abc import Mapping

from compress.data.columns import Columns, detect_columns
from compress.data.config import DataConfig
from compress.data.label_sets import read_label_sets
from compress.data.labels import Labels, is_missing, read_labels
from compress.data.rows import Row, Rows, slices_of
from compress.data.table import Table
from compress.errors import InputError
from compress.tasks import TaskKind


def read_sequence(tables: Mapping[str, Table], config: DataConfig) -> Rows:
    """Choose the columns and read the labels.

    Args:
        tables: the splits.
        config: columns and task where the user named them. `embedding` reads pairs with a score, which is
            scaled to [0, 1] by the lowest and the highest of all splits.

    Raises:
        InputError: a choice is not clear, rows have no text or label, or labels do not fit the task.
    """
    train = tables["train"]
    columns = detect_columns(train, config)
    tables, dropped = _usable(tables, columns)
    several = any(isinstance(value, list) for value in train.column(columns.label))
    task = config.task or ("multilabel" if several or config.separator else None)
    if task == "multilabel":
        labels = read_label_sets(tables, columns.label, config.separator)
    else:
        labels = read_labels(tables, columns.label, "regression" if task == "embedding" else task)
    kind: TaskKind = task or ("classification" if labels.names else "regression")
    if kind == "embedding":
        labels = _scaled(labels, columns, train.place)
    splits = {split: _rows(table, columns, labels, split) for split, table in tables.items()}
    return Rows(
        splits, kind, labels.names, (*columns.notes, *labels.notes, *dropped), slices_of(tables, config)
    )


def _usable(tables: Mapping[str, Table], columns: Columns) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Without splits that nobody labelled; rows of published data with no text or label are dropped."""
    kept, notes = {}, []
    for split, table in tables.items():
        names = table.class_names.get(columns.label, ())
        values = table.columns.get(columns.label) or [None] * table.rows
        # Benchmarks publish test splits with -1 in place of every label.
        placeholder = all(value == -1 for value in values)
        unlabelled = [placeholder or is_missing(value, names) for value in values]
        if split != "train" and all(unlabelled):
            notes.append(f"{split}: not used, it has no labels")
            continue
        bad = _without_text(table, columns)
        if bad and table.editable:
            raise InputError(
                f"{len(bad)} of {table.rows} rows have no text ({table.where(bad)})",
                place=table.place,
                remedy=f"Fill in or delete those rows; the text column is {columns.text!r}",
            )
        if not table.editable and (bad or any(unlabelled)):
            empty = set(bad)
            good = [row for row in range(table.rows) if row not in empty and not unlabelled[row]]
            dropped = table.rows - len(good)
            notes.append(f"{split}: {dropped} of {table.rows} rows without text or label dropped")
            if not good:
                raise InputError("no row has both text and label", place=table.place)
            table = table.select(good)
        kept[split] = table
    return kept, tuple(notes)


def _without_text(table: Table, columns: Columns) -> list[int]:
    bad = set()
    for name in filter(None, (columns.text, columns.text_pair)):
        values = table.column(name)
        wrong = next((row for row, value in enumerate(values) if not isinstance(value, str | None)), None)
        if wrong is not None:
            raise InputError(
                f"column {name!r} holds a {type(values[wrong]).__name__} where text should be "
                f"({table.where([wrong])})",
                place=table.place,
                remedy="Set text: to a column of strings in the recipe's data",
            )
        bad |= {row for row, value in enumerate(values) if not (value or "").strip()}
    return sorted(bad)


def _rows(table: Table, columns: Columns, labels: Labels, split: str) -> list[Row]:
    pairs = table.column(columns.text_pair) if columns.text_pair else [None] * table.rows
    return list(zip(table.column(columns.text), pairs, labels.values[split], strict=True))


def _scaled(labels: Labels, columns: Columns, place: str) -> Labels:
    """Bring scores to [0, 1], where a cosine of texts that mean the same, or something else, should be."""
    if columns.text_pair is None:
        raise InputError(
            "an embedding is trained on pairs of texts with a score, the data has single texts",
            place=place,
            remedy="Name the second column (text_pair), or choose another task",
        )
    scores = [float(score) for values in labels.values.values() for score in values]
    low, high = min(scores), max(scores)
    values = {
        split: [(float(score) - low) / (high - low) for score in values]
        for split, values in labels.values.items()
    }
    return Labels(values, (), (f"similarity: scores from {low:g} to {high:g}, scaled to 0 to 1",))
