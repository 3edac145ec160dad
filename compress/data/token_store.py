"""Tokenized texts on disk: written a chunk at a time, read a row at a time, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from compress.data.cache import cached, damaged
from compress.errors import InputError, first_line
from compress.tasks.ragged import Labels, Ragged

if TYPE_CHECKING:
    import datasets

Encoding = dict[str, list[int]]
Encode = Callable[["datasets.Dataset"], tuple[Sequence[Encoding], Labels | None]]

_CHUNK = 1_024  # rows tokenized at a time
_FORMAT = 2  # of the folder; raised when it changes, so that old ones are left alone
_OFFSETS, _LENGTHS = "offsets.npy", "lengths.npy"
_LABELS, _TOKEN_LABELS = "labels.npy", "token-labels.npy"


class TokenStore(Sequence[Encoding]):
    """Rows of token ids, attention masks and the like, memory-mapped from a folder.

    The folder holds a flat int32 array for each column, the int64 offset at which each row begins (one more for the
    end), the int32 lengths of the rows and, where they are known, the labels of the rows or of all their tokens. A row
    has as many values in one column as in another.

    Args:
        folder: what `build_tokens` wrote.

    Raises:
        InputError: it was damaged since.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._offsets: NDArray[np.int64] = _mapped(folder / _OFFSETS)
        self._lengths: NDArray[np.int32] = _mapped(folder / _LENGTHS)
        files = sorted(folder.glob("column-*.npy"))
        self._columns = {file.stem.removeprefix("column-"): _mapped(file) for file in files}

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(rows,) tokens in each row, to sort or bucket by without reading the rows."""
        return self._lengths

    @property
    def labels(self) -> Labels | None:
        """The labels, one an example or rows of (tokens,); None where none are known."""
        if (self.folder / _TOKEN_LABELS).exists():
            return Ragged(_mapped(self.folder / _TOKEN_LABELS), self._offsets)
        return _mapped(self.folder / _LABELS) if (self.folder / _LABELS).exists() else None

    def column(self, name: str) -> Ragged:
        """Return one column's rows, int32 arrays in the file."""
        return Ragged(self._columns[name], self._offsets)

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, index: int) -> Encoding: ...
    @overload
    def __getitem__(self, index: slice) -> list[Encoding]: ...
    def __getitem__(self, index: int | slice) -> Encoding | list[Encoding]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = int(index) % len(self)
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        return {name: column[start:end].tolist() for name, column in self._columns.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore, (self.folder,)  # a loader's worker maps the files anew instead of copying them


def build_tokens(data: datasets.Dataset, encode: Encode, key: str) -> TokenStore:
    """Tokenize a data set into the cache, or open what was tokenized before.

    A kill leaves nothing or the whole; of two processes that ask at once one tokenizes and the other waits.

    Args:
        data: what `encode` reads.
        encode: tokenizes a chunk of the data; each row gives the same columns, as many values in each; labels come
            with every chunk or with none.
        key: stands for all that decides the result: the data's content, the tokenizer's, the longest length.

    Raises:
        InputError: there are no rows, or the cache cannot be written.
    """
    if not len(data):
        raise InputError("there are no texts to tokenize", place="data", remedy="Give at least one row.")
    return TokenStore(cached("tokens", f"{key}-{_FORMAT}", lambda folder: _write(folder, data, encode)))


def _write(folder: Path, data: datasets.Dataset, encode: Encode) -> None:
    folder.mkdir()
    with ExitStack() as stack:
        offsets = stack.enter_context(_NpyWriter(folder / _OFFSETS, np.int64))
        lengths = stack.enter_context(_NpyWriter(folder / _LENGTHS, np.int32))
        offsets.write([0])
        columns: dict[str, _NpyWriter] = {}
        known: _NpyWriter | None = None
        for start in range(0, len(data), _CHUNK):
            rows, labels = encode(data.select(range(start, min(start + _CHUNK, len(data)))))
            columns = columns or {
                name: stack.enter_context(_NpyWriter(folder / f"column-{name}.npy", np.int32))
                for name in rows[0]
            }
            sizes = [len(next(iter(row.values()))) for row in rows]
            assert all(set(map(len, row.values())) == {size} for row, size in zip(rows, sizes, strict=True))
            lengths.write(sizes)
            offsets.write(np.cumsum(sizes) + next(iter(columns.values())).size)
            for name, column in columns.items():
                column.write([value for row in rows for value in row[name]])
            if labels is not None:
                values, name = (
                    (labels.values, _TOKEN_LABELS) if isinstance(labels, Ragged) else (labels, _LABELS)
                )
                known = known or stack.enter_context(
                    _NpyWriter(folder / name, values.dtype.type, values.shape[1:])
                )
                known.write(values)


class _NpyWriter:
    """Appends rows of a shape to an `.npy` file; the header is written again at the end, when their number is known."""

    def __init__(self, file: Path, kind: type[np.generic], row: tuple[int, ...] = ()) -> None:
        self.size, self._kind, self._row = 0, np.dtype(kind), row
        self._stream: IO[bytes] = file.open("w+b")
        self._write_header()

    def write(self, values: Any) -> None:
        part = np.asarray(values, self._kind)
        self.size += len(part)
        self._stream.write(part.tobytes())

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first axis to grow to any size.
        header = {"descr": self._kind.str, "fortran_order": False, "shape": (self.size, *self._row)}
        np.lib.format.write_array_header_1_0(self._stream, header)

    def __enter__(self) -> _NpyWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with self._stream:
            self._stream.seek(0)
            self._write_header()


def _mapped(file: Path) -> Any:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged("tokens", file.parent, first_line(error)) from error
