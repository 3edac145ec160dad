"""Random swap of words."""

from __future__ import annotations

from random import Random
from typing import Literal

from pydantic import Field

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.data.augmentation.words import count, on_words


class WordSwap(Augmentation, frozen=True):
    """Swap two words that are drawn at random, several times.

    Source: random swap of Wei & Zou 2019 (EDA, section 2), n = max(1, round(rate × words)) times.

    Example:
        - {method: word-swap, rate: 0.1}
    """

    method: Literal["word-swap"] = "word-swap"
    rate: float = Field(0.1, gt=0, le=1, description="swaps, as a share of the words")

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Return the rewrite; nothing is loaded."""
        return on_words(lambda words, generator: swap_words(words, self.rate, generator))


def swap_words(words: list[str], rate: float, generator: Random) -> list[str]:
    """Return the words with some of them in each other's place."""
    swapped = list(words)
    for _ in range(count(rate, len(words)) if len(words) > 1 else 0):
        one, other = generator.sample(range(len(words)), 2)
        swapped[one], swapped[other] = swapped[other], swapped[one]
    return swapped
