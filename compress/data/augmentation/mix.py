"""A run of words replaced by one of another text."""

from __future__ import annotations

from random import Random
from typing import Literal

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.data.augmentation.crop import cropped
from compress.data.augmentation.words import count, on_words


class SpanMix(Augmentation, frozen=True):
    """Put a run of another text's words in the place of a run of this one's.

    Both texts keep a share of their words, drawn evenly and adding up to 1, so the result is about as long as they
    are and says two things, as a sentence with a "but" does.

    Source: SSMix of Yoon et al. 2021 ("SSMix: saliency-based span mixup for text classification", section 3.1), with
    runs drawn by lot for the most salient ones, and the teacher's answer for the mixed label.

    Example:
        - {method: span-mix, copies: 4}
    """

    method: Literal["span-mix"] = "span-mix"

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Read the words of all texts."""
        others = [text.split() for text in corpus()]
        return on_words(lambda words, generator: mixed(words, generator.choice(others), generator))


def mixed(words: list[str], other: list[str], generator: Random) -> list[str]:
    """Return the words with a run of the other's in the place of one of theirs."""
    if not words or not other:
        return words
    share = generator.uniform(0, 1)
    inserted = cropped(other, 1 - share, generator)
    gone = count(1 - share, len(words))
    start = generator.randrange(len(words) - gone + 1)
    return words[:start] + inserted + words[start + gone :]
