"""Texts without labels on disk, memory-mapped: written a row at a time, read as a `datasets.Dataset`."""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.assets import cache_root
from compress.errors import InputError

if TYPE_CHECKING:
    import datasets

Row = tuple[str, ...]  # (text,) or (text, text_pair)
COLUMNS = ("text", "text_pair")
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
    """Memory-map what `write_rows` wrote."""
    import datasets

    return datasets.Dataset.from_file(str(file))


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
    schema = pyarrow.schema([(name, pyarrow.large_string()) for name in names])
    digest = hashlib.sha256(",".join(names).encode())
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        for batch in chunks(rows, _BATCH):
            for row in batch:
                for text in row:
                    data = text.encode("utf-8")
                    digest.update(struct.pack("<q", len(data)) + data)
            columns = [pyarrow.array(column, pyarrow.large_string()) for column in zip(*batch, strict=True)]
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


def cached(room: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return a file or folder of the cache, built where it is missing; other processes wait for the one that builds.

    A kill leaves nothing or the whole.

    Args:
        room: folder of the cache.
        key: its name there, which must stand for all that decides the content.
        build: writes it at the path that it is given.

    Raises:
        InputError: the cache cannot be written, or what `build` raises.
    """
    path = cache_root() / room / key
    if not path.exists():
        with scratch(room, key) as folder:
            if not path.exists():  # else another process built it while we waited
                build(folder / "new")
                (folder / "new").replace(path)
    return path


@contextmanager
def scratch(room: str, key: str) -> Iterator[Path]:
    """Yield an empty folder inside a room of the cache, for one process at a time, and remove it afterwards.

    Raises:
        InputError: the cache cannot be written.
    """
    from filelock import FileLock

    folder = cache_root() / room
    own = folder / f".{key}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{key}.lock"):
            # The lock is ours, so whatever an earlier, killed run left behind is nobody's.
            shutil.rmtree(own, ignore_errors=True)
            own.mkdir()
            try:
                yield own
            finally:
                shutil.rmtree(own, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the cache cannot be written ({error})",
            place=str(folder),
            remedy="Set COMPRESS_CACHE to a folder with space that you may write to",
        ) from error
