"""Tables of sentences that are split into words, with a tag for each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.data.config import DataConfig
from compress.data.rows import Row, Rows, slices_of
from compress.data.table import Table
from compress.errors import InputError

_WORDS = ("tokens", "words")
_TAGS = ("ner_tags", "tags", "pos_tags", "labels", "upos", "chunk_tags")


def shows_tokens(table: Table, config: DataConfig) -> bool:
    """Whether a table has a column of words and one of tags beside it."""
    words, tags = words_column(table, config.text), _column(table, config.label, _TAGS)
    return words is not None and tags is not None and _is_list(table, tags)


def words_column(table: Table, given: str | None = None) -> str | None:
    """Return the column of lists of words, the `given` one or by its name; None without one."""
    words = _column(table, given, _WORDS)
    return words if words is not None and _is_list(table, words) else None


def read_tokens(tables: Mapping[str, Table], config: DataConfig) -> Rows:
    """Read words and tags.

    Tags are names, or ids where the column has class names. The tags of all splits count; `O`, for what belongs
    to no entity, is the first.

    Raises:
        InputError: the columns are not there, words and tags of a row differ in number, or a row has none.
    """
    train = tables["train"]
    words, tags = _column(train, config.text, _WORDS), _column(train, config.label, _TAGS)
    if words is None or tags is None:
        missing, key, known = ("words", "text", _WORDS) if words is None else ("tags", "label", _TAGS)
        raise InputError(
            f"no column of {missing} ({', '.join(known)})",
            place=train.place,
            remedy=f"Set {key}: to one of its columns: {', '.join(train.columns)}",
        )
    found = {split: _pairs(table, words, tags) for split, table in tables.items()}
    names = train.class_names.get(tags, ())
    if not names:
        distinct = {tag for rows in found.values() for _, row in rows for tag in row}
        names = tuple(map(str, sorted(distinct, key=lambda tag: (tag != "O", isinstance(tag, str), tag))))
    ids: dict[Any, int] = {name: number for number, name in enumerate(names)}
    if train.class_names.get(tags):
        ids |= {number: number for number in range(len(names))}
    elif not all(isinstance(tag, str) for rows in found.values() for _, row in rows for tag in row):
        ids |= {int(name): number for name, number in ids.items() if name.lstrip("-").isdigit()}
    splits: dict[str, list[Row]] = {
        split: [(tuple(row), None, [_id(ids, tag, tables[split]) for tag in labels]) for row, labels in rows]
        for split, rows in found.items()
    }
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    notes = (f"words {words!r}, tags {tags!r}", f"{len(names)} tags: {shown}")
    return Rows(splits, "tokens", names, notes, slices_of(tables, config))


def _column(table: Table, given: str | None, known: Sequence[str]) -> str | None:
    if given is not None:
        table.column(given)
        return given
    return next((name for name in known if name in table.columns), None)


def _is_list(table: Table, name: str) -> bool:
    return isinstance(next((value for value in table.column(name) if value is not None), None), list)


def _pairs(table: Table, words: str, tags: str) -> list[tuple[list[str], list[Any]]]:
    rows = list(zip(table.column(words), table.column(tags), strict=True))
    for number, (text, labels) in enumerate(rows):
        if not isinstance(text, list) or not all(isinstance(word, str) and word.strip() for word in text):
            raise InputError(
                f"column {words!r} holds no list of words ({table.where([number])})",
                place=table.place,
                remedy="Each row is a list of words, none of them empty",
            )
        if not isinstance(labels, list) or len(labels) != len(text) or not text:
            count = len(labels) if isinstance(labels, list) else "no list of"
            raise InputError(
                f"{len(text)} words but {count} tags ({table.where([number])})",
                place=table.place,
                remedy="Give one tag for each word, and no row without words",
            )
    return rows


def _id(ids: Mapping[Any, int], tag: Any, table: Table) -> int:
    if tag not in ids:
        raise InputError(f"the tag {tag!r} is none of the column's classes", place=table.place)
    return ids[tag]
