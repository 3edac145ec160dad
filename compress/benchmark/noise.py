"""Noise that people make when they write, to see how far a model's answers stand it."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

from compress.benchmark.config import Noise

if TYPE_CHECKING:
    import datasets

_WORD = re.compile(r"[^\W\d_]{4,}")
_SHARE = 0.1  # of the words of four letters or more


def noisy(test: datasets.Dataset, kind: Noise, seed: int) -> datasets.Dataset:
    """Return a test set with noise in its texts; its labels stay.

    Args:
        test: columns `text` and maybe `text_pair`, or `tokens`, which are lists of words.
        kind: `typos` swaps two letters inside one of ten words, at least one, and never the first or the last;
            `lower-case` and `upper-case` change the case.
        seed: with the row's number, of what is drawn.
    """
    tagged = "tokens" in test.column_names
    columns = ["tokens"] if tagged else [name for name in ("text", "text_pair") if name in test.column_names]

    def change(row: dict[str, Any], number: int) -> dict[str, Any]:
        generator = random.Random(f"{seed} {number}")
        changed = {name: _changed(row[name], kind, generator) for name in columns}
        return {**changed, "text": " ".join(changed["tokens"])} if tagged else changed

    return test.map(change, with_indices=True, keep_in_memory=True, load_from_cache_file=False)


def _changed(text: Any, kind: Noise, generator: random.Random) -> Any:
    if isinstance(text, list):  # words, of which each stays one
        return _changed("\0".join(text), kind, generator).split("\0")
    if kind == "typos":
        return with_typos(text, generator)
    return text.lower() if kind == "lower-case" else text.upper()


def with_typos(text: str, generator: random.Random) -> str:
    """Swap two neighbouring letters inside a tenth of the words of four letters or more, at least one of them."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    letters = list(text)
    for word in generator.sample(words, max(1, round(_SHARE * len(words)))):
        place = generator.randrange(word.start() + 1, word.end() - 2)
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)
