"""Raw text without labels, to learn the language from."""

from __future__ import annotations

from collections.abc import Mapping

from compress.data.columns import text_column
from compress.data.config import DataConfig
from compress.data.rows import Row, Rows
from compress.data.table import Table
from compress.errors import InputError


def shows_lines(table: Table) -> bool:
    """Whether a table is the lines of a text file."""
    return table.place.endswith(".txt") and list(table.columns) == ["text"]


def read_lines(tables: Mapping[str, Table], config: DataConfig) -> Rows:
    """Read the text column, and leave out rows without text; other columns are not looked at.

    Raises:
        InputError: it is not clear which column is the text, none holds any, or parts are asked for.
    """
    if config.slice_by is not None:
        raise InputError(
            "raw text has no parts to score: nothing in it is labelled",
            place=tables["train"].place,
            remedy="Leave slice_by out.",
        )
    name, note = text_column(tables["train"], config)
    splits: dict[str, list[Row]] = {}
    for split, table in tables.items():
        texts = [value for value in table.column(name) if isinstance(value, str) and value.strip()]
        if not texts:
            raise InputError(f"no row of column {name!r} has text", place=table.place)
        splits[split] = [(text, None, None) for text in texts]
    return Rows(splits, "language", (), (note, "no labels: words are hidden and to be told"))
