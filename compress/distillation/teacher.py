"""A teacher: what it says, and shows inside, of every example; computed once, kept on disk, read by every run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from compress.assets import cache_root
from compress.data.cache import scratch
from compress.display import progress, say
from compress.distillation.signals import Signal, answer_signal, answering
from compress.distillation.store import LENGTHS, Stored, file_name, open_stored, writing
from compress.distillation.transfer import TransferPart, tokenized
from compress.errors import InputError
from compress.manifest import hash_json
from compress.tasks.inputs import batches

if TYPE_CHECKING:
    from compress.artifact import Artifact

_BATCH = 32
_ROOM = "teacher"


@dataclass(frozen=True)
class Teacher:
    """A trained model that answers in place of, or beside, the labels.

    Attributes:
        artifact: the model with its own tokenizer and task.
        content: hash of the teacher's folder; the cache is kept under it.
        bf16: whether it runs in bfloat16 (autocast).
    """

    artifact: Artifact
    content: str
    bf16: bool

    @property
    def answer(self) -> Signal:
        """What it says."""
        return answer_signal(self.artifact.task)

    def broken(self, count: int) -> InputError:
        """Return the error of so many answers that are not finite."""
        return InputError(
            f"the teacher answers NaN or infinity for {count} examples",
            place=self.artifact.manifest.source or "teacher",
            remedy="Its weights are broken; train it again or give another teacher.",
        )

    def signals(self, part: TransferPart, wanted: Iterable[Signal] = ()) -> dict[Signal, Stored]:
        """Return what the teacher computes on a split, logits in its own label order.

        It is computed once per (teacher, data, length, precision, device, maps or none) and signal, and memory-mapped
        from the cache.

        Args:
            part: the text.
            wanted: signals besides the answer.

        Raises:
            InputError: the teacher answers NaN or infinity, or has no such signal.
            CompressError: the disk has no room for them.
        """
        signals = sorted({self.answer, *wanted})
        known = [self.content, part.fingerprint, self.artifact.task.max_length, self.bf16, _BATCH]
        # Maps are seen by another way to compute attention alone, which rounds all that follows otherwise; so does a
        # GPU. What a CPU computes without maps has the shorter key that it always had.
        maps = ["maps"] if any(signal.kind == "attention" for signal in signals) else []
        device = [kind] if (kind := self.artifact.model.device.type) != "cpu" else []
        key = hash_json(known + maps + device)[:32]
        folder = cache_root() / _ROOM / key
        if _missing(folder, signals):
            with scratch(_ROOM, key) as own:
                # Another process may have computed them while we waited.
                self._compute(part, folder, _missing(folder, signals), own)
        else:
            say(f"  teacher's answers: {len(part.data):,} from the cache")
        return open_stored(folder, signals)

    def _compute(self, part: TransferPart, folder: Path, signals: Sequence[Signal], own: Path) -> None:
        if not signals:
            return
        encoded = tokenized(part, self.artifact.tokenizer, self.artifact.task)
        broken = 0
        with (
            writing(folder, signals, encoded.lengths.astype(np.int64), own) as writers,
            answering(self.artifact, signals, self.bf16) as answer,
            progress("teacher answers", len(encoded)) as advance,
        ):
            for indices, batch in batches(encoded, self.artifact.tokenizer, _BATCH):
                found = answer(batch)
                if self.answer in found:
                    broken += not_finite(found[self.answer])
                for signal, writer in writers.items():
                    writer.write(indices, found[signal], batch["attention_mask"])
                advance(len(indices))
            if broken:
                raise self.broken(broken)


def _missing(folder: Path, signals: Iterable[Signal]) -> list[Signal]:
    if not (folder / LENGTHS).exists():
        return list(signals)
    return [signal for signal in signals if not (folder / file_name(signal)).exists()]


def not_finite(answer: Tensor) -> int:
    """Return how many rows of (B, …) hold NaN or infinity."""
    return int((~torch.isfinite(answer)).flatten(1).any(-1).sum())
