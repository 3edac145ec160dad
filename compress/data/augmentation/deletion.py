"""Random deletion of a span of words."""

from __future__ import annotations

from random import Random
from typing import Literal

from pydantic import Field

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.data.augmentation.words import count, on_words


class SpanDeletion(Augmentation, frozen=True):
    """Delete a run of words that begins anywhere.

    Source: random deletion of Wei & Zou 2019 (EDA, section 2), on a contiguous span as in the span cutoff of Shen
    et al. 2020 ("A simple but tough-to-beat data augmentation approach", section 3.2). The span has
    max(1, round(rate × words)) words and never all of them; one word stays as it is.

    Example:
        - {method: span-deletion, rate: 0.2, copies: 2}
    """

    method: Literal["span-deletion"] = "span-deletion"
    rate: float = Field(0.2, gt=0, lt=1, description="share of the words to delete")

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Return the rewrite; nothing is loaded."""
        return on_words(lambda words, generator: delete_span(words, self.rate, generator))


def delete_span(words: list[str], rate: float, generator: Random) -> list[str]:
    """Return the words without the span."""
    if len(words) < 2:
        return words
    length = min(count(rate, len(words)), len(words) - 1)
    start = generator.randrange(len(words) - length + 1)
    return words[:start] + words[start + length :]
