"""Where in the text an input's tokens stand, by which tokens of two tokenizers are told to be alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import BatchEncoding

# Which text of a pair, or which word, and the characters there from its first that is no white space: [start, end).
Span = tuple[int, int, int]


@dataclass(frozen=True)
class InputSpans:
    """One input's tokens.

    Attributes:
        example: which text it is of; a long context has several inputs.
        spans: of every token, None for a special one.
    """

    example: int
    spans: list[Span | None]


def spans_of(
    encoded: BatchEncoding, row: int, homes: Sequence[int | None], texts: Sequence[str]
) -> list[Span | None]:
    """Return where an input's tokens stand.

    Args:
        encoded: with `offset_mapping`.
        row: the input.
        homes: for each token which of `texts` it is of, None for a special one.
        texts: what the tokenizer read.
    """
    offsets = encoded["offset_mapping"][row]
    return [
        None if home is None else (home, *_trimmed(texts[home], *span))
        for home, span in zip(homes, offsets, strict=True)
    ]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out white space, which some tokenizers count to a piece and others do not, and that before the text."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    before = len(text) - len(text.lstrip())
    return start - before, end - before
