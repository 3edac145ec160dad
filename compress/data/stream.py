"""Files of text read a row at a time, so that memory does not grow with their length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.data.columns import detect_texts, text_names
from compress.data.files import csv_delimiter, json_value, quoted_rows, read_file
from compress.data.table import Table
from compress.data.tokens import words_column
from compress.errors import InputError

Record = dict[str, Any]
_SAMPLE = 2_000  # rows that the columns are detected by


def stream_texts(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the texts of a file, one tuple a row: of one value, or of two where two columns are named as pairs are.

    Args:
        path: an existing file whose suffix is one of `STREAMS`. A `.txt` file holds one text a line; a list in a
            `.json` file is read whole.

    Yields:
        What the cells hold: a string, None where a cell is empty, or something else that is no text.

    Raises:
        InputError: it does not parse, or it is not clear which columns hold the text.
    """
    suffix = path.suffix.lower()
    if suffix not in STREAMS:
        raise InputError(
            f"files ending in {path.suffix or 'nothing'!r} are not read as text",
            place=str(path),
            remedy=f"Use one of: {', '.join(STREAMS)}",
        )
    yield from texts_of(str(path), _readable(path, STREAMS[suffix]), typed=suffix not in (".csv", ".tsv"))


def texts_of(place: str, rows: Iterator[Record], *, typed: bool = True) -> Iterator[tuple[Any, ...]]:
    """Yield the texts among the rows of a table, as `stream_texts` does; sentences that are lists of words too.

    Args:
        place: what they come from, for messages.
        rows: values by column.
        typed: see `Table`.
    """
    first = list(itertools.islice(rows, _SAMPLE))
    names = list(dict.fromkeys(name for record in first for name in record))
    table = Table(place, {name: [record.get(name) for record in first] for name in names}, typed=typed)
    words = words_column(table)
    if words is not None and not text_names(table):
        yield from ((_sentence(record.get(words)),) for record in itertools.chain(first, rows))
        return
    if names == ["text"]:
        text, pair = "text", None
    elif first:
        text, pair = detect_texts(table)
    for record in itertools.chain(first, rows):
        yield (record.get(text),) if pair is None else (record.get(text), record.get(pair))


def _sentence(words: Any) -> Any:
    """Return words as the text that labelled data makes of them, and anything else as it is."""
    return " ".join(words) if isinstance(words, list) and all(isinstance(w, str) for w in words) else words


def records(columns: Mapping[str, Sequence[Any]]) -> Iterator[Record]:
    """Yield the rows of columns of equal length."""
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _readable(path: Path, read: Callable[[Path], Iterator[Record]]) -> Iterator[Record]:
    try:
        yield from read(path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 (byte 0x{error.object[error.start]:02x})",
            place=str(path),
            remedy="Convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 old > new",
        ) from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", place=str(path)) from error


def _txt(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for line in lines:
            yield {"text": line}


def _jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                record = json_value(path, line.rstrip(), number)
                if not isinstance(record, dict):
                    raise InputError(
                        f"line {number} is a {type(record).__name__}, not an object",
                        place=str(path),
                        remedy='Each row is an object: {"text": …}',
                    )
                yield record


def _csv(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        first = next(lines, "")
        yield from _with_header(
            path, quoted_rows(path, itertools.chain([first], lines), csv_delimiter(first))
        )


def _tsv(path: Path) -> Iterator[Record]:
    """Tab-separated files come quoted and unquoted; a lone quote mark is then ordinary text."""
    yield from _with_header(path, (_unquoted if _is_unquoted(path) else _quoted)(path))


def _is_unquoted(path: Path) -> bool:
    """Whether every line has as many cells as the first, and no cell means what stands between its quote marks."""
    width, wrapped = None, False
    for _, cells in _unquoted(path):
        width = width or len(cells)
        if len(cells) != width:
            return False
        wrapped = wrapped or any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
    if not wrapped:
        return True
    try:
        for _ in _with_header(path, _quoted(path)):
            pass
    except InputError:
        return True
    return False


def _unquoted(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if plain := line.rstrip("\r\n"):
                yield number, plain.split("\t")


def _quoted(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        yield from quoted_rows(path, lines, "\t")


def _with_header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Record]:
    _, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    for line, cells in rows:
        if len(cells) != len(names):
            raise InputError(
                f"line {line} has {len(cells)} fields, the header has {len(names)}",
                place=str(path),
                remedy='Put fields that hold the delimiter in "…"',
            )
        yield dict(zip(names, cells, strict=True))


def _json(path: Path) -> Iterator[Record]:
    yield from records(read_file(path).columns)


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_SAMPLE):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"not a readable parquet file ({error})", place=str(path)) from error


STREAMS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".txt": _txt,
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
}
"""Reader by file suffix."""
