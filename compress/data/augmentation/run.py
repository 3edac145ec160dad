"""`augment`: new texts of given ones, on disk, for a teacher to label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.augmentation.base import Augmentation, Rewrite, rewrite_rows
from compress.data.cache import cached
from compress.data.duplicates import folded, text_key
from compress.data.texts import COLUMNS, ROOM, Row, Texts, open_texts, write_rows
from compress.display import progress
from compress.errors import InputError

if TYPE_CHECKING:
    import datasets

_CHUNK = 1_024  # rows that are rewritten together


def augment(
    data: datasets.Dataset,
    methods: Sequence[Augmentation],
    seed: int,
    fingerprint: str,
    device: str = "cpu",
    draw: int = 0,
) -> Texts:
    """Make `copies` new texts of each row by each method.

    What comes out as it went in (but for case and spaces) is dropped, and so is what two copies of a row have in
    common. A row's new texts depend on the seed, the method and the row alone: another seed gives
    other ones, another order of the rows the same. They are kept in the cache and made once.

    Args:
        data: columns `text` and, for pairs, `text_pair`; others are ignored.
        methods: at least one; their results follow each other row by row.
        seed: of everything drawn.
        fingerprint: hash that stands for the rows and their order.
        device: where a model of a method runs.
        draw: from 0; another draw with the same seed makes other texts.

    Raises:
        InputError: a method's model cannot do what is asked, or no text came out changed.
    """
    from compress.artifact import content_hash
    from compress.manifest import hash_json
    from compress.sources import resolve_model

    columns = [name for name in COLUMNS if name in data.column_names]
    models = [content_hash(resolve_model(name).path) for method in methods for name in method.model_names()]
    configs = [method.model_dump(mode="json") for method in methods]
    key = hash_json([fingerprint, configs, models, seed, *([draw] if draw else [])])

    def corpus() -> list[str]:
        return sorted({text for name in columns for text in data[name]})

    def build(file: Path) -> None:
        prepared = [(method, method.prepare(device, corpus)) for method in methods]
        write_rows(file, _new_rows(data.select_columns(columns), prepared, seed, draw), len(columns) == 2)

    made = open_texts(cached(ROOM, f"augmented-{key}.arrow", build))
    names = ", ".join(method.model_dump()["method"] for method in methods)
    if not len(made):
        raise InputError(f"{names} changed no text", place="augmentation", remedy="Take another method.")
    alike = len(data) * sum(method.copies for method in methods) - len(made)
    note = f"augmentation ({names}): {len(made):,} texts made of {len(data):,}; unchanged or alike: {alike:,}"
    return Texts(names, made, key, (note,))


def _new_rows(
    data: datasets.Dataset, methods: Sequence[tuple[Augmentation, Rewrite]], seed: int, draw: int
) -> Iterator[Row]:
    with progress("augment", len(data)) as advance:
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            rows: list[Row] = list(zip(*chunk.values(), strict=True))
            made = [
                rewrite_rows(method, rewrite, rows, seed, draw * method.copies + copy)
                for method, rewrite in methods
                for copy in range(method.copies)
            ]
            for row, *copies in zip(rows, *made, strict=True):
                yield from _changed(row, copies)
            advance(len(rows))


def _changed(row: Row, copies: Sequence[Row]) -> Iterator[Row]:
    """Yield the copies that differ from the row and from each other."""
    known = {text_key(row, folded)}
    for copy in copies:
        key = text_key(copy, folded)
        if key not in known and all(text.strip() for text in copy):
            known.add(key)
            yield copy
