"""Read one local file into a table: csv, tsv, json, jsonl, parquet, conll, txt. Text stays as it was typed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from compress.data.conll import conll_table
from compress.data.questions import is_squad, squad_table
from compress.data.table import Table
from compress.errors import InputError

_CELL_LIMIT = 1 << 27  # characters; csv's own limit of 131,072 is less than a long document


def read_file(path: Path) -> Table:
    """Read a data file by its suffix.

    Args:
        path: an existing file whose suffix is one of `READERS`.

    Returns:
        All its columns. Values of csv and tsv are strings, an empty cell is None.

    Raises:
        InputError: unknown suffix, an empty file, text that is not UTF-8, rows that do not parse.
    """
    if path.suffix.lower() not in READERS:
        raise InputError(
            f"files ending in {path.suffix or 'nothing'!r} are not read as data",
            place=str(path),
            remedy=f"Use one of: {', '.join(READERS)}",
        )
    try:
        if path.stat().st_size == 0:
            raise InputError("the file is empty", place=str(path), remedy="It needs a header and rows")
        table = READERS[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", place=str(path)) from error
    if not table.rows:
        raise InputError(
            "the file has a header but no rows" if table.columns else "the file has no rows",
            place=str(path),
            remedy="Add rows, or check that it was written to the end",
        )
    return table


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"not UTF-8: byte 0x{data[error.start]:02x} on line {line}",
            place=str(path),
            remedy="Convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 old > new",
        ) from error


def _read_csv(path: Path) -> Table:
    text = _text(path)
    rows = quoted_rows(path, io.StringIO(text, newline=""), csv_delimiter(text.split("\n", 1)[0]))
    return _table_of_rows(path, list(rows))


def csv_delimiter(header: str) -> str:
    """Return the comma, or the semicolon where only that stands in the first line."""
    return ";" if "," not in header and ";" in header else ","


def _read_tsv(path: Path) -> Table:
    """Tab-separated files come quoted and unquoted; a lone quote mark is then ordinary text."""
    text = _text(path)
    lines = enumerate(text.replace("\r\n", "\n").split("\n"), start=1)
    plain = [(number, line.split("\t")) for number, line in lines if line]
    regular = len({len(cells) for _, cells in plain}) == 1
    wrapped = any(len(cell) > 1 and cell[0] == cell[-1] == '"' for _, cells in plain for cell in cells)
    if regular and not wrapped:
        return _table_of_rows(path, plain)
    try:
        return _table_of_rows(path, list(quoted_rows(path, io.StringIO(text, newline=""), "\t")))
    except InputError:
        if regular:
            return _table_of_rows(path, plain)
        raise


def quoted_rows(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the non-empty rows of delimited text with the line each starts on.

    Args:
        path: for messages.
        lines: with their line ends as they are; a file opened with `newline=""`.
        delimiter: one character.

    Raises:
        InputError: a row does not parse.
    """
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"line {start} does not parse: {error}",
            place=str(path),
            remedy='A field with a comma, a quote or a line break must stand in "…", its quotes doubled',
        ) from error


def _table_of_rows(path: Path, rows: list[tuple[int, list[str]]]) -> Table:
    if not rows:
        raise InputError("the file is empty", place=str(path), remedy="It needs a header and rows")
    header = [name.strip() for name in rows[0][1]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"the header names {twice[0]!r} twice", place=str(path), remedy="Rename one column")
    ragged = [(line, len(cells)) for line, cells in rows[1:] if len(cells) != len(header)]
    if ragged:
        line, width = ragged[0]
        raise InputError(
            f"line {line} has {width} fields, the header has {len(header)} ({len(ragged)} such lines)",
            place=str(path),
            remedy='Put fields that hold the delimiter in "…"',
        )
    body = rows[1:]
    columns = {name: [cells[i] or None for _, cells in body] for i, name in enumerate(header)}
    return Table(str(path), columns, lines=[line for line, _ in body], typed=False)


def _read_jsonl(path: Path) -> Table:
    records, lines = [], []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            records.append(json_value(path, line, number))
            lines.append(number)
    return _table_of_records(path, records, lines)


def _read_json(path: Path) -> Table:
    text = _text(path)
    if text.lstrip()[:1] == "{" and "\n" in text.strip():  # JSON lines under the name .json are common
        first = text.strip().split("\n", 1)[0]
        try:
            json.loads(first)
        except ValueError:
            pass
        else:
            return _read_jsonl(path)
    records = json_value(path, text, 1)
    if is_squad(records):
        return squad_table(str(path), records)
    if not isinstance(records, list):
        raise InputError(
            f"its top level is a {type(records).__name__}, not a list of rows",
            place=str(path),
            remedy='Write [{"text": …, "label": …}, …], or one object a line in a .jsonl file',
        )
    return _table_of_records(path, records, ())


def json_value(path: Path, text: str, line: int) -> Any:
    """Parse JSON that begins on a line of a file.

    Raises:
        InputError: it is not valid.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        line += error.lineno - 1 if isinstance(error, json.JSONDecodeError) else 0
        raise InputError(
            f"line {line} is not valid JSON: {message}", place=str(path), remedy="Mend or delete that line"
        ) from error


def _table_of_records(path: Path, records: list[Any], lines: list[int] | tuple[()]) -> Table:
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            place = f"line {lines[index]}" if lines else f"row {index + 1}"
            raise InputError(
                f"{place} is a {type(record).__name__}, not an object",
                place=str(path),
                remedy='Each row is an object: {"text": …, "label": …}',
            )
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    return Table(str(path), columns, lines=lines)


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise InputError(f"not a readable parquet file ({error})", place=str(path)) from error
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    # `datasets` leaves the class names of its ClassLabel columns in the schema.
    saved = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = saved.get("info", {}).get("features", {})
    return Table(str(path), columns, class_names=_class_names(features))


def _class_names(features: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of the columns that hold classes, or lists of them."""
    found = {}
    for name, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else None
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            found[name] = tuple(inner["names"])
    return found


def _read_text(path: Path) -> Table:
    """Lines of text without the empty ones; columns of words and tags in capitals are sentences as in CoNLL."""
    text = _text(path)
    lines = [line for line in text.split("\n") if line.strip()]
    cells = [line.split() for line in lines if not line.startswith("-DOCSTART-")]
    blocks = len(lines) < text.strip().count("\n") + 1
    tagged = all(row[-1][0].isupper() or not row[-1][0].isalpha() for row in cells)
    if blocks and tagged and len({len(row) for row in cells}) == 1 and len(cells[0]) > 1:
        return conll_table(str(path), text)
    return Table(str(path), {"text": [line.rstrip("\r") for line in lines]})


def _read_conll(path: Path) -> Table:
    return conll_table(str(path), _text(path))


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".conll": _read_conll,
    ".txt": _read_text,
}
"""Reader by file suffix."""
