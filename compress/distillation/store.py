"""A teacher's signals on disk: written once, memory-mapped, read one example at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.distillation.signals import Signal
from compress.errors import CompressError, InputError, first_line

LENGTHS = "lengths.npy"


@dataclass(frozen=True)
class Stored:
    """One signal of all examples.

    Args:
        values: (rows, width), float32 or, as the bits of bfloat16, int16.
        lengths: the teacher's tokens of each example, int64.
        ends: (examples,) int64, the row after each example's last.
        rows: as `Signal.rows`.
    """

    values: NDArray[Any]
    lengths: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: int

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Tensor:
        """Return (width,), (T, width) or (width, T, T): one example's, as float32 or bfloat16."""
        length, stop = int(self.lengths[index]), int(self.ends[index])
        values = torch.from_numpy(np.array(self.values[stop - length**self.rows : stop]))
        values = values.view(torch.bfloat16) if values.dtype == torch.int16 else values
        if self.rows == 2:
            return values.view(length, length, -1).permute(2, 0, 1)
        return values[0] if self.rows == 0 else values

    def stack(self, examples: Sequence[Tensor]) -> Tensor:
        """Stack examples, padded with zeros to the longest: (B, width), (B, T, width) or (B, width, T, T)."""
        if self.rows == 0:
            return torch.stack(list(examples))
        if self.rows == 1:
            return nn.utils.rnn.pad_sequence(list(examples), batch_first=True)
        longest = max(example.shape[-1] for example in examples)
        room = [longest - example.shape[-1] for example in examples]
        padded = [nn.functional.pad(e, (0, r, 0, r)) for e, r in zip(examples, room, strict=True)]
        return torch.stack(padded)


def open_stored(folder: Path, signals: Iterable[Signal]) -> dict[Signal, Stored]:
    """Map the files that `writing` made.

    Raises:
        InputError: one was damaged since.
    """
    lengths = _mapped(folder / LENGTHS)
    ends = {rows: _ends(lengths, rows) for rows in {signal.rows for signal in signals}}
    found = {}
    for signal in signals:
        path = folder / file_name(signal)
        values, expected = _mapped(path), int(ends[signal.rows][-1])
        if len(values) != expected:
            raise _damaged(path, f"{len(values):,} rows where {expected:,} should be")
        found[signal] = Stored(values, lengths, ends[signal.rows], signal.rows)
    return found


def file_name(signal: Signal) -> str:
    """Return the name of a signal's file."""
    return f"{signal}.npy"


def _mapped(path: Path) -> NDArray[Any]:
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _damaged(path, first_line(error)) from error
    return mapped


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"the teacher's cached answers are damaged, or another teacher's ({why})",
        place=str(path),
        remedy="Remove this file; they are computed again.",
    )


def _ends(lengths: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.cumsum(lengths**rows)
    return ends


class Writer:
    """Fills the file of one signal in any order of examples.

    Args:
        path: where it is written.
        lengths: the teacher's tokens of each example.
        signal: what it holds; answers are kept in float32, all else in bfloat16.
    """

    def __init__(self, path: Path, lengths: NDArray[np.int64], signal: Signal) -> None:
        self.path, self.lengths, self.signal = path, lengths, signal
        self.ends = _ends(lengths, signal.rows)
        self.file: NDArray[Any] | None = None

    def write(self, indices: Sequence[int], values: Tensor, mask: Tensor) -> None:
        """Write a batch: (B, W), (B, T, W) or (B, W, T, T); `mask` (B, T) says which tokens are no padding."""
        if self.signal.rows == 2:
            values = values.permute(0, 2, 3, 1)
        whole = self.signal.kind in ("answer", "token-answer")
        array = values.float() if whole else values.to(torch.bfloat16).view(torch.int16)
        batch = array.cpu().numpy()
        if self.file is None:
            dtype = np.float32 if whole else np.int16
            shape = (int(self.ends[-1]) if len(self.ends) else 0, batch.shape[-1])
            _require_room(self.path.parent, shape[0] * shape[1] * np.dtype(dtype).itemsize)
            self.file = np.lib.format.open_memmap(self.path, mode="w+", dtype=dtype, shape=shape)
        kept = mask.bool().cpu().numpy()
        for row, index in enumerate(indices):
            stop = int(self.ends[index])
            start = stop - int(self.lengths[index]) ** self.signal.rows
            one = batch[row]
            if self.signal.rows == 1:
                one = one[kept[row]]
            elif self.signal.rows == 2:
                one = one[kept[row]][:, kept[row]].reshape(-1, batch.shape[-1])
            self.file[start:stop] = one


@contextmanager
def writing(
    folder: Path, signals: Iterable[Signal], lengths: NDArray[np.int64], own: Path
) -> Iterator[dict[Signal, Writer]]:
    """Yield a writer for each signal; the files appear whole at the end, or not at all.

    Args:
        folder: where they appear, with the lengths.
        signals: what is written.
        lengths: the teacher's tokens of each example.
        own: a folder on the same disk where they lie until they are whole.
    """
    writers = {signal: Writer(own / file_name(signal), lengths, signal) for signal in signals}
    yield writers
    np.save(own / LENGTHS, lengths, allow_pickle=False)
    folder.mkdir(parents=True, exist_ok=True)
    (own / LENGTHS).replace(folder / LENGTHS)
    for writer in writers.values():
        assert writer.file is not None
        writer.file.flush()  # type: ignore[attr-defined]
        writer.path.replace(folder / writer.path.name)


def _require_room(folder: Path, size: int) -> None:
    # A file takes its room as it is filled, and through a map: a disk that is full by then ends the process.
    begun = [file.stat() for file in folder.iterdir()]
    free = shutil.disk_usage(folder).free - sum(max(0, s.st_size - 512 * s.st_blocks) for s in begun)
    if size > free:
        raise CompressError(
            f"the teacher's signals need {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            place=str(folder),
            remedy="Match fewer layers, set COMPRESS_CACHE to a larger disk, or use --no-cache.",
        )
