"""Texts as words, and which of a model's tokens are whole words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from compress.data.marks import marks
from compress.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compress.data.augmentation.base import Rewrite


@cache
def _word() -> re.Pattern[str]:
    """Letters and their marks, with an apostrophe inside."""
    letters = rf"[^\W\d_](?:[^\W\d_]|[{marks()}])*"
    return re.compile(rf"{letters}(?:['’]{letters})*")


def on_words(change: Callable[[list[str], Random], list[str]]) -> Rewrite:
    """Return a rewrite that changes a text's words, which white space separates; punctuation stays at its word."""

    def rewrite(texts: Sequence[str], generators: Sequence[Random]) -> list[str]:
        return [
            " ".join(change(text.split(), generator))
            for text, generator in zip(texts, generators, strict=True)
        ]

    return rewrite


def count(rate: float, words: int) -> int:
    """Return how many of so many words a rate means, at least one."""
    return max(1, round(rate * words))


def spelled(text: str) -> list[re.Match[str]]:
    """Return the words of a text that are made of letters, without the punctuation around them."""
    return list(_word().finditer(text))


def replaced(text: str, words: dict[re.Match[str], str]) -> str:
    """Return the text with some of its `spelled` words replaced, in the case of the old ones."""
    for word, new in sorted(words.items(), key=lambda item: -item[0].start()):
        old = word.group()
        cased = new.capitalize() if old[0].isupper() and new.islower() else new
        cased = cased.upper() if len(old) > 1 and old.isupper() and new.islower() else cased
        text = text[: word.start()] + cased + text[word.end() :]
    return text


def whole_words(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the tokens that are a word of letters by themselves, as id to word.

    Pieces that continue a word, special tokens, numbers and punctuation are left out: only what the tokenizer turns
    back into the very same id stays.

    Raises:
        InputError: there are none, as with a tokenizer of characters.
    """
    special = set(tokenizer.all_special_ids)
    spellings = {i: str(tokenizer.decode([i])).strip() for i in range(len(tokenizer)) if i not in special}
    words = {i: word for i, word in spellings.items() if word.isalpha()}
    encoded = tokenizer([f" {word}" for word in words.values()], add_special_tokens=False)["input_ids"]
    whole = {i: word for (i, word), ids in zip(words.items(), encoded, strict=True) if ids == [i]}
    if len(whole) < 2:
        raise InputError(
            "the model's tokenizer has no whole words", place="augmentation", remedy="Name another model."
        )
    return whole
