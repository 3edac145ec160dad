"""What a reader of one form of data makes of tables: rows by split, before missing splits are cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.tasks import TaskKind

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
    """

    splits: Mapping[str, list[Row]]
    kind: TaskKind
    names: tuple[str, ...]
    notes: tuple[str, ...]
