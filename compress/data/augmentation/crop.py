"""Random crop: a run of words by itself."""

from __future__ import annotations

from random import Random
from typing import Literal

from pydantic import Field

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.data.augmentation.words import count, on_words


class SpanCrop(Augmentation, frozen=True):
    """Keep a run of words that begins anywhere, and nothing else.

    Its share of the words is drawn evenly from `least` to 1, so a teacher says of phrases of all lengths what they
    mean, which of whole sentences alone a student has to guess.

    Source: the phrases below a sentence's root, each with a label, of Socher et al. 2013 ("Recursive deep models for
    semantic compositionality", section 3), with random spans for the parser's; cropping as in Meng et al. 2021
    (COCO-LM, section 3.2).

    Example:
        - {method: span-crop, least: 0.1, copies: 4}
    """

    method: Literal["span-crop"] = "span-crop"
    least: float = Field(0.1, gt=0, lt=1, description="smallest share of the words to keep")

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Return the rewrite; nothing is loaded."""
        return on_words(lambda words, generator: cropped(words, generator.uniform(self.least, 1), generator))


def cropped(words: list[str], rate: float, generator: Random) -> list[str]:
    """Return a run of round(rate × words) of the words, at least one."""
    if not words:
        return words
    length = count(rate, len(words))
    start = generator.randrange(len(words) - length + 1)
    return words[start : start + length]
