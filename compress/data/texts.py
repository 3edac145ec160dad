"""Texts without labels on disk, memory-mapped: written a row at a time, read as a `datasets.Dataset`."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.cache import damaged
from compress.errors import first_line

if TYPE_CHECKING:
    import datasets

Row = tuple[str, ...]  # (text,) or (text, text_pair)
COLUMNS = ("text", "text_pair")
ROOM = "texts"  # of the cache
_BATCH = 1_000  # rows held in memory


@dataclass(frozen=True)
class Texts:
    """Texts for a teacher to label.

    Args:
        name: where they come from, as the user wrote it.
        data: columns `text` and, for pairs, `text_pair`; memory-mapped from the cache.
        fingerprint: hex digest that stands for the content, for cache keys.
        notes: what was read, made or dropped, one sentence each.
    """

    name: str
    data: datasets.Dataset
    fingerprint: str
    notes: tuple[str, ...]


def open_texts(file: Path) -> datasets.Dataset:
    """Memory-map what `write_rows` wrote.

    Raises:
        InputError: it was damaged since.
    """
    import datasets
    import pyarrow

    try:
        return datasets.Dataset.from_file(str(file))
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged("texts", file, first_line(error)) from error


def write_rows(file: Path, rows: Iterable[Row], pair: bool) -> str:
    """Write rows to an Arrow stream, a thousand in memory at a time.

    Args:
        file: a new file.
        rows: texts, or pairs where `pair`.
        pair: whether each row is two texts.

    Returns:
        Hex sha256 over the columns' names and the rows, each text with its length before it.
    """
    import pyarrow

    names = COLUMNS[: 1 + pair]
    schema = pyarrow.schema([(name, pyarrow.string()) for name in names])
    digest = hashlib.sha256(",".join(names).encode())
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        for batch in chunks(rows, _BATCH):
            for row in batch:
                for text in row:
                    data = text.encode("utf-8")
                    digest.update(struct.pack("<q", len(data)) + data)
            columns = [pyarrow.array(column, pyarrow.string()) for column in zip(*batch, strict=True)]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
    return digest.hexdigest()


def chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Yield the rows in lists of `size`, the last one shorter."""
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
