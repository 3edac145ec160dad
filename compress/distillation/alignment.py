"""Which token of the teacher stands for the same characters as a token of the student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.data.token_store import TokenStore, build_tokens
from compress.distillation.counterparts import BEGINS, ENDS, INPUT, NOWHERE, RULES, Counterparts, counterparts
from compress.distillation.transfer import TransferPart, joined, tokenized
from compress.errors import InputError
from compress.manifest import hash_json
from compress.tasks.inputs import is_paired
from compress.tasks.ragged import Ragged
from compress.training.tokenized import vocabulary

if TYPE_CHECKING:
    import datasets

    from compress.artifact import Artifact
    from compress.training.examples import Column

FEWEST = 0.3  # of the student's tokens that must have a counterpart
_COUNTED = 1 << 20  # tokens looked at together


@dataclass(frozen=True)
class Positions:
    """Where each token of the student stands in the teacher's, a column of the examples.

    Args:
        rows: for each input (student's tokens,) int32, `NOWHERE` for a token without counterpart.
        side: on which the student's tokens are padded.
    """

    rows: Sequence[NDArray[np.int32]]
    side: str

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.rows[index].astype(np.int64))

    def stack(self, rows: Sequence[Tensor]) -> Tensor:
        """Return (B, longest) int64, `NOWHERE` on padding."""
        return torch.nn.utils.rnn.pad_sequence(list(rows), True, NOWHERE, self.side)


@dataclass(frozen=True)
class Elsewhere:
    """A column of the teacher's inputs as one of the student's, where both read a text in windows of their own.

    Args:
        column: by the teacher's inputs.
        places: for each of the student's inputs the teacher's that goes with it.
    """

    column: Column
    places: Sequence[int]

    def __getitem__(self, index: int) -> Any:
        return self.column[self.places[index]]

    def stack(self, rows: Sequence[Any]) -> Any:
        """Stack rows as the teacher's column does."""
        return self.column.stack(rows)


@dataclass(frozen=True)
class AlignedAnswers:
    """Answers for tokens by the student's tokens.

    Args:
        column: (T, L) by the teacher's tokens.
        positions: one for all answers, or one for each.
    """

    column: Column
    positions: Sequence[Positions]

    def __getitem__(self, index: int) -> Tensor:
        """Return (S, L), NaN where the teacher has no such token."""
        places = torch.stack([each[index] for each in self.positions], -1)
        return take_answers(self.column[index][None], places[None])[0]


@dataclass(frozen=True)
class Alignment:
    """What of a teacher's inputs and tokens goes with the student's.

    Both read the same text, each in its own pieces; white space is left aside. A special token in front of all text
    answers to the other's there, and so does one behind all text. Of the teacher's windows of a long text that one
    counts which has most in common with the student's.

    Attributes:
        parts: the text.
        teacher: its tokenizer and task are read.
        student: the same.
        stores: of each part the positions of its tokens, None where both read the same.
    """

    parts: Sequence[TransferPart]
    teacher: Artifact
    student: Artifact
    stores: Sequence[TokenStore | None]

    def by_input(self, column: Column) -> Column:
        """Return a column of the teacher's inputs as one of the student's."""
        if not self.student.task.rules.windows or all(store is None for store in self.stores):
            return column
        sizes = [len(tokenized(part, self.teacher.tokenizer, self.teacher.task)) for part in self.parts]
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        places = [
            range(start, start + size) if store is None else _Sources(store.column(INPUT), start)
            for store, start, size in zip(self.stores, starts, sizes, strict=True)
        ]
        return Elsewhere(column, joined(places))

    def positions(self, name: str) -> Positions:
        """Return where in the teacher's each of the student's tokens stands.

        Args:
            name: `SAME`, `BEGINS` or `ENDS`.

        Raises:
            InputError: too few tokens have a counterpart.
        """
        rows = [
            _Counting(tokenized(part, self.student.tokenizer, self.student.task).lengths)
            if store is None
            else store.column(name)
            for part, store in zip(self.parts, self.stores, strict=True)
        ]
        self._require_enough([store.column(name).values for store in self.stores if store is not None])
        return Positions(joined(rows), self.student.tokenizer.padding_side)

    def answer_positions(self) -> list[Positions]:
        """Return which of the teacher's tokens answer in a student's token's place.

        A word's tag is its first piece's; a span starts where its first piece starts and ends where its last one ends.

        Raises:
            InputError: as `positions`.
        """
        places = self.student.task.rules.compared == "places"
        return [self.positions(name) for name in ((BEGINS, ENDS) if places else (BEGINS,))]

    def _require_enough(self, columns: Sequence[NDArray[np.int32]]) -> None:
        chunks = [
            column[start : start + _COUNTED]
            for column in columns
            for start in range(0, len(column), _COUNTED)
        ]
        matched = sum(int(np.count_nonzero(chunk != NOWHERE)) for chunk in chunks)
        total = sum(map(len, chunks))
        if matched < FEWEST * total:
            raise InputError(
                f"teacher and student split text differently: {matched / max(total, 1):.0%} of the student's tokens "
                "have a counterpart",
                place=self.teacher.manifest.source or "teacher",
                remedy="Match `sentence` and the logits of whole texts, which need no tokens in common, or take a "
                "student with the teacher's tokenizer.",
            )


def by_input(column: Any, alignment: Alignment | None) -> Any:
    """Return a column of a teacher's inputs as one of the student's; without an alignment they are the same."""
    return column if alignment is None else alignment.by_input(column)


def align(parts: Sequence[TransferPart], teacher: Artifact, student: Artifact) -> Alignment:
    """Find for the student's tokens the teacher's with the same characters; what is found is kept on disk.

    Args:
        parts: the text.
        teacher: its tokenizer and task are read.
        student: the same.

    Raises:
        InputError: a tokenizer cannot say where its pieces come from.
    """
    return Alignment(parts, teacher, student, [_aligned(part, teacher, student) for part in parts])


@dataclass(frozen=True)
class _Counting(Sequence[NDArray[np.int32]]):
    """Each token is its own counterpart: the tokenizer is the same."""

    lengths: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        return np.arange(self.lengths[index], dtype=np.int32)


@dataclass(frozen=True)
class _Sources(Sequence[int]):
    """The teacher's input that goes with each of the student's; every token of a row names it."""

    rows: Ragged
    start: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.start + int(self.rows[index][0])


def _aligned(part: TransferPart, teacher: Artifact, student: Artifact) -> TokenStore | None:
    """Return the positions of a part's tokens, kept in the cache; None where both read the same tokens."""
    readers = (teacher, student)
    alike = [
        (vocabulary(each.tokenizer), each.task.max_length, is_paired(part.data, each.task))
        for each in readers
    ]
    if alike[0] == alike[1]:
        return None
    for each, who in zip(readers, ("teacher", "student"), strict=True):
        if not each.tokenizer.is_fast:
            raise InputError(
                f"the {who}'s tokenizer cannot say where in the text its tokens come from",
                place=type(each.tokenizer).__name__,
                remedy="Take a student with the teacher's tokenizer, or match `sentence` and the logits of sentences.",
            )
    read = 0  # of the teacher's inputs

    def align(chunk: datasets.Dataset) -> tuple[list[Counterparts], None]:
        nonlocal read
        theirs, ours = (each.task.rules.spans(chunk, each.tokenizer) for each in readers)
        found = counterparts(ours, theirs, read)
        read += len(theirs)
        return found, None

    key = hash_json([part.fingerprint, alike, [each.task.kind for each in readers], "aligned", RULES])
    return build_tokens(part.data, align, key[:32])


def take(values: Tensor, positions: Tensor, rows: int) -> Tensor:
    """Bring a teacher's signal into the order of the student's tokens.

    Args:
        values: (B, T, H), or (B, heads, T, T) where `rows` is 2, by the teacher's tokens.
        positions: (B, S) int64 teacher positions, `NOWHERE` where there is none; those rows hold anything.
        rows: as `Signal.rows`.

    Returns:
        (B, S, H) or (B, heads, S, S).
    """
    places = positions.clamp(min=0)
    batch = torch.arange(len(values), device=values.device)[:, None]
    if rows == 1:
        return values[batch, places]
    return values.transpose(1, 2)[batch, places].permute(0, 3, 2, 1)[batch, places].permute(0, 2, 3, 1)


def take_answers(answers: Tensor, positions: Tensor) -> Tensor:
    """Bring a teacher's answers for tokens into the order of the student's.

    Args:
        answers: (B, T, L) by the teacher's tokens.
        positions: (B, S, 1), or (B, S, L) where every answer has places of its own; see `take`.

    Returns:
        (B, S, L), NaN where there is no position.
    """
    one = positions.shape[-1] == 1
    taken = take(answers, positions[..., 0], 1) if one else answers.gather(1, positions.clamp(min=0))
    return taken.masked_fill_(positions == NOWHERE, torch.nan)


def to_front(values: Tensor, mask: Tensor, rows: int) -> Tensor:
    """Bring what was padded in front of the tokens to the form with padding behind them, which positions count in.

    Args:
        values: (B, T, H), or (B, heads, T, T) where `rows` is 2; of a whole sentence where it is 0, as it stays.
        mask: (B, T) attention mask, on the same device or not.
        rows: as `Signal.rows`.
    """
    first = mask.to(values.device).argmax(1)
    if rows == 0 or not bool(first.any()):
        return values
    length = mask.shape[1]
    return take(values, (torch.arange(length, device=values.device) + first[:, None]) % length, rows)
