"""Which texts count as the same, and a memory of texts that lives on disk."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from compress.data.marks import marks


def folded(text: str) -> str:
    """Return the text without case and with single spaces: `A  Film.` and `a film.` are one.

    So are an accented letter and a letter with the accent behind it.
    """
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def bare(text: str) -> str:
    """Return the words alone, without case, spaces and punctuation between them: `A film!` and `a film` are one.

    A text of nothing but punctuation stays as it is, so that `:)` and `:(` are two.
    """
    text = folded(text)
    return " ".join(_not_words().split(text.replace("_", " "))).strip() or text


@cache
def _not_words() -> re.Pattern[str]:
    return re.compile(rf"[^\w{marks()}]+")


def text_key(row: Sequence[str], form: Callable[[str], str]) -> int:
    """Return 64 bits that stand for a row of texts in one of the forms above.

    Among a million texts two differ and share a key with probability 3e-8.

    Args:
        row: one text, or the two of a pair, in order.
        form: `folded` or `bare`.
    """
    data = "\0".join(map(form, row)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


@contextmanager
def seen_keys(file: Path) -> Iterator[Callable[[int], bool]]:
    """Yield a function that says whether a key was given to it before.

    The keys are kept in an SQLite file, so memory does not grow with their number.

    Args:
        file: a new file; it is the caller's to remove.
    """
    import sqlite3

    with closing(sqlite3.connect(file, isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode = OFF")
        store.execute("PRAGMA synchronous = OFF")
        store.execute("CREATE TABLE seen (key INTEGER PRIMARY KEY)")
        store.execute("BEGIN")

        def seen(key: int) -> bool:
            return store.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 0

        yield seen
