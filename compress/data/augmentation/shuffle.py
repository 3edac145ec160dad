"""Shuffle of sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Literal

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite

_BETWEEN = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+")


class SentenceShuffle(Augmentation, frozen=True):
    """Put the sentences of a text into another order.

    Source: sentence permutation of Lewis et al. 2020 (BART, section 2.2). A sentence ends with `.`, `!`, `?` or `…`
    before white space; a text of one sentence stays as it is.

    Example:
        - {method: sentence-shuffle}
    """

    method: Literal["sentence-shuffle"] = "sentence-shuffle"

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Return the rewrite; nothing is loaded."""
        return _rewrite


def _rewrite(texts: Sequence[str], generators: Sequence[Random]) -> list[str]:
    return [shuffle_sentences(text, generator) for text, generator in zip(texts, generators, strict=True)]


def shuffle_sentences(text: str, generator: Random) -> str:
    """Return the text with its sentences in a random order."""
    sentences = sentences_of(text)
    if len(sentences) < 2:
        return text
    generator.shuffle(sentences)
    return " ".join(sentences)


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, with the quote marks that close them."""
    cuts = [0, *(match.end() for match in _BETWEEN.finditer(text)), len(text)]
    return [part for start, end in zip(cuts, cuts[1:], strict=False) if (part := text[start:end].strip())]
