"""A split as it was read, before anything is decided about its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.errors import InputError


@dataclass(frozen=True)
class Table:
    """Named columns of equal length.

    Args:
        place: the file or split they come from, for messages.
        columns: values by column name, in order; a missing value is None.
        class_names: names by id, for columns that carry them (`datasets.ClassLabel`).
        lines: the line of the file each row starts on, where rows and lines differ in number.
        typed: False where every value was read as a string (csv, tsv).
        editable: whether the user can mend rows by hand: a local file, not a published data set.
    """

    place: str
    columns: Mapping[str, Sequence[Any]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lines: Sequence[int] = ()
    typed: bool = True
    editable: bool = True

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column.

        Raises:
            InputError: there is no such column.
        """
        if name not in self.columns:
            raise InputError(
                f"there is no column {name!r}",
                place=self.place,
                remedy=f"Its columns: {', '.join(self.columns)}",
            )
        return self.columns[name]

    def where(self, rows: Sequence[int], limit: int = 5) -> str:
        """`line 3, 8, 12, …` (or `row`, counted from 1) for row indices counted from 0."""
        unit = "line" if self.lines else "row"
        shown = [str(self.lines[row] if self.lines else row + 1) for row in rows[:limit]]
        plural = "s" if len(rows) > 1 else ""
        return f"{unit}{plural} {', '.join(shown)}{', …' if len(rows) > limit else ''}"

    def select(self, rows: Sequence[int]) -> Table:
        """The table of the given rows (indices from 0), in that order."""
        return Table(
            place=self.place,
            columns={name: [values[row] for row in rows] for name, values in self.columns.items()},
            class_names=self.class_names,
            lines=[self.lines[row] for row in rows] if self.lines else (),
            typed=self.typed,
            editable=self.editable,
        )
