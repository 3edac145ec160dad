"""`load_data`: find the source, choose columns, read labels, complete the splits."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.columns import Columns, detect_columns
from compress.data.config import DataConfig, TextData
from compress.data.duplicates import bare, text_key
from compress.data.labels import Labels, is_missing, read_labels
from compress.data.splits import CUTS, FEWEST_ROWS, SEED, cut, share
from compress.data.table import Table
from compress.errors import InputError

if TYPE_CHECKING:
    import datasets


def load_data(config: DataConfig) -> TextData:
    """Load text data for classification or regression from wherever it is.

    Args:
        config: the source, and any column that should not be detected. A source is tried as a local file or
            folder, then as packaged data, then as a hub data set.

    Returns:
        Train, validation and test in one form; what was detected or cut stands in `notes`.

    Raises:
        InputError: the source does not exist, its rows are unusable, or a choice is not clear. The message
            says where and how to settle it.
    """
    tables, notes = _read(config.source)
    columns = detect_columns(tables["train"], config)
    tables, dropped = _usable(tables, columns)
    labels = read_labels(tables, columns.label, config.task)
    given = {split: _rows(table, columns, labels, split) for split, table in tables.items()}
    rows, cut_notes = _complete_splits(given, tables["train"].place, by_class=bool(labels.names))
    overlap = _overlap(rows)
    return TextData(
        name=config.source,
        train=_dataset(rows["train"], labels),
        validation=_dataset(rows["validation"], labels),
        test=_dataset(rows["test"], labels),
        labels=labels.names,
        pair=columns.text_pair is not None,
        fingerprint=_fingerprint(rows, labels),
        notes=(*notes, *columns.notes, *labels.notes, *dropped, *cut_notes, *overlap),
    )


def _read(source: str) -> tuple[dict[str, Table], tuple[str, ...]]:
    from compress.assets import CATALOG
    from compress.data.hub import read_hub
    from compress.data.local import looks_like_path, read_local
    from compress.data.packaged import read_packaged

    if not source.strip():
        raise InputError("the data source is empty", remedy="Name a file, a folder or a data set")
    path = Path(source).expanduser()
    if path.exists() or looks_like_path(source):
        return read_local(path)
    if source in CATALOG:
        return read_packaged(source), ()
    return read_hub(source)


def _usable(tables: Mapping[str, Table], columns: Columns) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Without splits that nobody labelled; rows of published data with no text or label are dropped."""
    kept, notes = {}, []
    for split, table in tables.items():
        names = table.class_names.get(columns.label, ())
        values = table.columns.get(columns.label) or [None] * table.rows
        # Benchmarks publish test splits with -1 in place of every label.
        placeholder = all(value == -1 for value in values)
        unlabelled = [placeholder or is_missing(value, names) for value in values]
        if split != "train" and all(unlabelled):
            notes.append(f"{split}: not used, it has no labels")
            continue
        bad = _without_text(table, columns)
        if bad and table.editable:
            raise InputError(
                f"{len(bad)} of {table.rows} rows have no text ({table.where(bad)})",
                place=table.place,
                remedy=f"Fill in or delete those rows; the text column is {columns.text!r}",
            )
        if not table.editable and (bad or any(unlabelled)):
            empty = set(bad)
            good = [row for row in range(table.rows) if row not in empty and not unlabelled[row]]
            dropped = table.rows - len(good)
            notes.append(f"{split}: {dropped} of {table.rows} rows without text or label dropped")
            if not good:
                raise InputError("no row has both text and label", place=table.place)
            table = table.select(good)
        kept[split] = table
    return kept, tuple(notes)


def _without_text(table: Table, columns: Columns) -> list[int]:
    bad = set()
    for name in filter(None, (columns.text, columns.text_pair)):
        values = table.column(name)
        wrong = next((row for row, value in enumerate(values) if not isinstance(value, str | None)), None)
        if wrong is not None:
            raise InputError(
                f"column {name!r} holds a {type(values[wrong]).__name__} where text should be "
                f"({table.where([wrong])})",
                place=table.place,
                remedy="Set text: to a column of strings in the recipe's data",
            )
        bad |= {row for row, value in enumerate(values) if not (value or "").strip()}
    return sorted(bad)


Row = tuple[str, str | None, int | float]


def _complete_splits(
    given: Mapping[str, list[Row]], place: str, *, by_class: bool
) -> tuple[dict[str, list[Row]], tuple[str, ...]]:
    """Cut what is missing from train; a lone validation split serves as the test."""
    notes = []
    done = dict(given)
    if "test" not in done and "validation" in done:
        done["test"] = done.pop("validation")
        notes.append("test: the source's validation split, as it has no labelled test split")
    total = len(done["train"])
    for split, (fraction, most) in CUTS.items():
        if split in done:
            continue
        rows = done["train"]
        strata = [row[2] if by_class else 0 for row in rows]
        taken, left = cut(strata, [row[:2] for row in rows], share(total, fraction, most))
        if not taken or total < FEWEST_ROWS:
            raise InputError(
                f"{total} rows are too few to cut a {split} set from",
                place=place,
                remedy="Give more rows of each class, or a folder with train, validation and test files",
            )
        notes.append(f"{split}: {len(taken)} of {total} train rows, seed {SEED}" + ", by class" * by_class)
        done[split], done["train"] = [rows[row] for row in taken], [rows[row] for row in left]
    return done, tuple(notes)


def _rows(table: Table, columns: Columns, labels: Labels, split: str) -> list[Row]:
    pairs = table.column(columns.text_pair) if columns.text_pair else [None] * table.rows
    return list(zip(table.column(columns.text), pairs, labels.values[split], strict=True))


def _dataset(rows: Sequence[Row], labels: Labels) -> datasets.Dataset:
    import datasets

    columns: dict[str, list[object]] = {"text": [row[0] for row in rows]}
    features = {"text": datasets.Value("string")}
    if rows[0][1] is not None:
        columns["text_pair"] = [row[1] for row in rows]
        features["text_pair"] = datasets.Value("string")
    columns["label"] = [row[2] for row in rows]
    features["label"] = datasets.Value("int64" if labels.names else "float32")
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _fingerprint(rows: Mapping[str, Sequence[Row]], labels: Labels) -> str:
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(struct.pack("<q", len(data)) + data)

    for name in labels.names:
        add(name)
    for split in ("train", "validation", "test"):
        add(split)
        for text, pair, label in rows[split]:
            add(text)
            if pair is not None:
                add(pair)
            digest.update(struct.pack("<q", int(label)) if labels.names else struct.pack("<f", label))
    return digest.hexdigest()


def _overlap(rows: Mapping[str, Sequence[Row]]) -> tuple[str, ...]:
    """A warning when test rows also stand in train, be it in other case or with other punctuation: scores flatter."""
    test = [_texts(row) for row in rows["test"]]
    train = {_texts(row) for row in rows["train"]}
    same = sum(texts in train for texts in test)
    alike = {text_key(texts, bare) for texts in train}
    near = sum(text_key(texts, bare) in alike for texts in test)
    if not near:
        return ()
    but_for = f" ({near - same} but for case, spaces or punctuation)" if near > same else ""
    return (f"{near} of {len(test)} test rows also occur in train{but_for}",)


def _texts(row: Row) -> tuple[str, ...]:
    return row[:1] if row[1] is None else (row[0], row[1])
