"""Which token of the teacher stands for the same characters as a token of the student."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compress.errors import InputError

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from compress.tasks import Task

NOWHERE = -1
FEWEST = 0.3  # of the student's tokens that must have a counterpart

Reader = tuple["PreTrainedTokenizerBase", "Task"]
# A token's text (0 or 1 of a pair) and its characters there.
Span = tuple[int, int, int]


def align_tokens(data: datasets.Dataset, teacher: Reader, student: Reader) -> list[NDArray[np.int32]]:
    """Find for each token of the student the teacher's token with the same characters, white space aside.

    Both read the same text, each in its own pieces. The first special token of one answers to the first of the
    other, and so does the last.

    Args:
        data: a split with "text" and, for pairs, "text_pair".
        teacher: a fast tokenizer, which knows where in the text a piece comes from, and the task, which knows the
            longest input.
        student: the same of the student.

    Returns:
        For each example the teacher's positions (student's tokens,), `NOWHERE` for a token without counterpart.

    Raises:
        InputError: a tokenizer cannot say where its pieces come from, or too few pieces have a counterpart.
    """
    theirs, ours = _spans(data, *teacher, "teacher"), _spans(data, *student, "student")
    found = []
    for wanted, given in zip(theirs, ours, strict=True):
        places = {span: index for index, span in enumerate(wanted)}
        found.append(np.array([places.get(span, NOWHERE) for span in given], dtype=np.int32))
    matched = sum(int((row != NOWHERE).sum()) for row in found)
    total = sum(map(len, found))
    if matched < FEWEST * total:
        raise InputError(
            f"teacher and student split text differently: {matched / max(total, 1):.0%} of the student's tokens "
            "have a counterpart",
            place="match",
            remedy="Match `sentence` and the logits, which need no tokens in common, or take a student with the "
            "teacher's tokenizer.",
        )
    return found


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


def _spans(
    data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task, who: str
) -> list[list[Span]]:
    if not tokenizer.is_fast:
        raise InputError(
            f"the {who}'s tokenizer cannot say where in the text its tokens come from",
            place=type(tokenizer).__name__,
            remedy="Match `sentence` and the logits, which need no tokens in common.",
        )
    texts = [list(data["text"])] + ([list(data["text_pair"])] if "text_pair" in data.column_names else [])
    encoded = tokenizer(
        *texts, truncation=True, max_length=task.max_length, return_offsets_mapping=True, padding=False
    )
    found = []
    for row, offsets in enumerate(encoded["offset_mapping"]):
        spans = [
            (part, *_stripped(texts[part][row], *span)) if part is not None else None
            for part, span in zip(encoded.sequence_ids(row), offsets, strict=True)
        ]
        special = [index for index, span in enumerate(spans) if span is None]
        ends = {special[0]: (-1, 0, 0), special[-1]: (-1, 1, 1)} if special else {}
        # A special token in the middle is nobody's counterpart: its span is its own.
        found.append(
            [span or ends.get(i, (-2 if who == "teacher" else -3, i, i)) for i, span in enumerate(spans)]
        )
    return found


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out white space, which some tokenizers count to a piece and others do not."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
