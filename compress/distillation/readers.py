"""What teachers read that answer at every step of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compress.distillation.alignment import Alignment, Positions, by_input
from compress.distillation.transfer import TransferPart, joined, tokenized
from compress.tasks.inputs import pad

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compress.artifact import Artifact

TEACHER_INPUTS = "teacher_inputs"


@dataclass(frozen=True)
class Reader:
    """What a teacher reads of each of the student's inputs.

    Attributes:
        inputs: its tokens.
        tokenizer: that pads them.
        positions: where it answers for the student's tokens; empty where it answers for whole texts.
    """

    inputs: Any
    tokenizer: PreTrainedTokenizerBase
    positions: Sequence[Positions]

    @classmethod
    def of(cls, teacher: Artifact, parts: Sequence[TransferPart], alignment: Alignment | None) -> Reader:
        """Read parts by a teacher's own tokenizer."""
        inputs = joined([tokenized(part, teacher.tokenizer, teacher.task) for part in parts])
        positions = alignment.answer_positions() if alignment is not None and teacher.task.per_token else []
        return cls(by_input(inputs, alignment), teacher.tokenizer, positions)


@dataclass(frozen=True)
class TeacherInputs:
    """What the teachers read, a column of the examples."""

    readers: Sequence[Reader]

    def __getitem__(self, index: int) -> list[tuple[dict[str, list[int]], list[Tensor]]]:
        return [(each.inputs[index], [some[index] for some in each.positions]) for each in self.readers]

    def stack(
        self, rows: Sequence[list[tuple[dict[str, list[int]], list[Tensor]]]]
    ) -> list[tuple[dict[str, Tensor], Tensor | None]]:
        """Return for each teacher its padded batch and (B, S, 1 or L) positions."""
        found: list[tuple[dict[str, Tensor], Tensor | None]] = []
        for reader, some in zip(self.readers, zip(*rows, strict=True), strict=True):
            inputs, places = zip(*some, strict=True)
            stacked = [
                column.stack(given)
                for column, given in zip(reader.positions, zip(*places, strict=True), strict=True)
            ]
            found.append((pad(inputs, reader.tokenizer), torch.stack(stacked, -1) if stacked else None))
        return found
