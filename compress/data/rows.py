"""What a reader of one form of data makes of tables: rows by split, before missing splits are cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.data.config import DataConfig
from compress.data.table import Table
from compress.tasks import TaskKind

SLICE = "slice by "  # begins the name of the test set's column with what `slice_by` holds

# Text or words, second text or None, label: a class id, a score, a list of ids, answers, or None.
Row = tuple[str | tuple[str, ...], str | None, Any]


@dataclass(frozen=True)
class Rows:
    """The rows of every split in one form.

    Args:
        splits: rows by split; `train` among them.
        kind: the task that they pose.
        names: class names by id; empty where there are no classes.
        notes: what was detected or decided, one sentence each.
        slices: what the column `slice_by` holds in each row of the split that the test set is, or is cut from; empty
            without one.
    """

    splits: Mapping[str, list[Row]]
    kind: TaskKind
    names: tuple[str, ...]
    notes: tuple[str, ...]
    slices: tuple[str, ...] = ()


def slices_of(tables: Mapping[str, Table], config: DataConfig) -> tuple[str, ...]:
    """Return what `slice_by` holds where the test set comes from, an empty string where it holds nothing.

    Raises:
        InputError: there is no such column.
    """
    if config.slice_by is None:
        return ()
    tested = next(tables[split] for split in ("test", "validation", "train") if split in tables)
    return tuple("" if value is None else str(value) for value in tested.column(config.slice_by))
