"""Which token of the teacher stands for the same characters as a token of the student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.data.texts import COLUMNS as TEXTS
from compress.distillation.transfer import TransferPart, tokenized
from compress.errors import InputError

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from compress.artifact import Artifact

NOWHERE = -1
FEWEST = 0.3  # of the student's tokens that must have a counterpart

# Which text of a pair, or which word, and the characters there.
Span = tuple[int, int, int]


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


def align_tokens(parts: Sequence[TransferPart], teacher: Artifact, student: Artifact) -> Positions:
    """Find for each token of the student the teacher's token with the same characters, white space aside.

    Both read the same text, each in its own pieces. The first special token of one answers to the first of the
    other, and so does the last.

    Args:
        parts: the text.
        teacher: its tokenizer and task are read.
        student: the same.

    Raises:
        InputError: a tokenizer cannot say where its pieces come from, or too few pieces have a counterpart.
    """
    rows = [row for part in parts for row in _aligned(part, teacher, student)]
    matched, total = sum(int((row != NOWHERE).sum()) for row in rows), sum(map(len, rows))
    if matched < FEWEST * total:
        raise InputError(
            f"teacher and student split text differently: {matched / max(total, 1):.0%} of the student's tokens "
            "have a counterpart",
            place="match",
            remedy="Match `sentence` and the logits, which need no tokens in common, or take a student with the "
            "teacher's tokenizer.",
        )
    return Positions(rows, student.tokenizer.padding_side)


def _aligned(part: TransferPart, teacher: Artifact, student: Artifact) -> Iterator[NDArray[np.int32]]:
    ours = tokenized(part, student.tokenizer, student.task)
    theirs = tokenized(part, teacher.tokenizer, teacher.task)
    if ours.folder == theirs.folder:  # one tokenizer
        yield from (np.arange(length, dtype=np.int32) for length in ours.lengths)
        return
    for wanted, given in zip(_spans(part, teacher, "teacher"), _spans(part, student, "student"), strict=True):
        places = {span: index for index, span in enumerate(wanted)}
        yield np.array([places.get(span, NOWHERE) for span in given], dtype=np.int32)


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


def _spans(part: TransferPart, reader: Artifact, who: str) -> list[list[Span]]:
    tokenizer, task, data = reader.tokenizer, reader.task, part.data
    by_word = task.kind == "tokens" and "tokens" in data.column_names
    if not tokenizer.is_fast or not (by_word or task.one_answer):
        cause = (
            f"{task.kind} needs teacher and student with one tokenizer"
            if tokenizer.is_fast
            else f"the {who}'s tokenizer cannot say where in the text its tokens come from"
        )
        raise InputError(
            cause,
            place=type(tokenizer).__name__,
            remedy="Take a student with the teacher's tokenizer, or match `sentence` and the logits of sentences.",
        )
    texts = (
        _words(data, tokenizer)
        if by_word
        else [list(data[name]) for name in TEXTS if name in data.column_names]
    )
    encoded = tokenizer(
        *texts,
        truncation=True,
        max_length=task.max_length,
        return_offsets_mapping=True,
        padding=False,
        is_split_into_words=by_word,
    )
    found = []
    for row, offsets in enumerate(encoded["offset_mapping"]):
        homes = encoded.word_ids(row) if by_word else encoded.sequence_ids(row)
        spans = [
            None
            if home is None
            else (home, *_trimmed(texts[0][row][home] if by_word else texts[home][row], *span))
            for home, span in zip(homes, offsets, strict=True)
        ]
        special = [index for index, span in enumerate(spans) if span is None]
        ends = {special[0]: (-1, 0, 0), special[-1]: (-1, 1, 1)} if special else {}
        # A special token in the middle is nobody's counterpart: its span is its own.
        own = -2 if who == "teacher" else -3
        found.append([span or ends.get(i, (own, i, i)) for i, span in enumerate(spans)])
    return found


def _words(data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[list[str]]]:
    from compress.tasks.tokens import spaced

    return [spaced([list(sentence) for sentence in data["tokens"]], tokenizer)]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out white space, which some tokenizers count to a piece and others do not, and that before the text."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    before = len(text) - len(text.lstrip())
    return start - before, end - before
