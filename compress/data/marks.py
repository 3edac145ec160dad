"""Marks that belong to the letter before them: accents that stand apart, and the vowel signs of many scripts."""

from __future__ import annotations

import unicodedata
from functools import cache

_END = 0x20000  # of the planes that have letters; beyond lie ideographs and signs for drawing
_SELECTORS = range(0xFE00, 0xFE10)  # say how the sign before them is drawn


@cache
def marks() -> str:
    r"""Return all of them, none of which is in `\w`, to be put in a character class.

    Without them `की` and `का` are the same letter, and an accent cuts a decomposed word in two.
    """
    found = (i for i in range(_END) if unicodedata.category(chr(i)) in ("Mn", "Mc"))
    return "".join(chr(i) for i in found if i not in _SELECTORS)
