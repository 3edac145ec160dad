"""`load_data`: find the source, read its rows, complete the splits."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.data.config import DataConfig, TextData
from compress.data.duplicates import bare, text_key
from compress.data.lines import read_lines, shows_lines
from compress.data.questions import read_questions, shows_questions
from compress.data.rows import SLICE, Row, Rows
from compress.data.sequence import read_sequence
from compress.data.splits import CUTS, FEWEST_ROWS, SEED, cut, share
from compress.data.table import Table
from compress.data.tokens import read_tokens, shows_tokens
from compress.errors import InputError

if TYPE_CHECKING:
    import datasets


def load_data(config: DataConfig) -> TextData:
    """Load text data from wherever it is.

    Args:
        config: the source, and any column or task that should not be detected. A source is tried as a local file
            or folder, then as packaged data, then as a hub data set.

    Returns:
        Train, validation and test in one form; what was detected or cut stands in `notes`.

    Raises:
        InputError: the source does not exist, its rows are unusable, or a choice is not clear. The message
            says where and how to settle it.
    """
    tables, notes = _read(config.source)
    found = _rows(tables, config)
    rows, slices, cut_notes = _complete_splits(found, tables["train"].place)
    overlap = _overlap(rows)
    return TextData(
        name=config.source,
        train=_dataset(rows["train"], found),
        validation=_dataset(rows["validation"], found),
        test=_sliced(_dataset(rows["test"], found), slices, config),
        labels=found.names,
        pair=rows["train"][0][1] is not None,
        fingerprint=_fingerprint(rows, found),
        notes=(*notes, *found.notes, *cut_notes, *overlap),
        kind=found.kind,
    )


def _rows(tables: Mapping[str, Table], config: DataConfig) -> Rows:
    """Read the tables in the form that the task needs, or that their columns show."""
    if config.task == "tokens" or (config.task is None and shows_tokens(tables["train"], config)):
        return read_tokens(tables, config)
    if config.task == "questions" or (config.task is None and shows_questions(tables["train"], config)):
        return read_questions(tables, config)
    if config.task == "language" or (config.task is None and shows_lines(tables["train"])):
        return read_lines(tables, config)
    return read_sequence(tables, config)


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


def _complete_splits(found: Rows, place: str) -> tuple[dict[str, list[Row]], Sequence[str], tuple[str, ...]]:
    """Cut what is missing from train; a lone validation split serves as the test, whose slices come along."""
    notes, slices = [], found.slices
    done = dict(found.splits)
    by_class = found.kind == "classification"
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
        if split == "test" and slices:
            slices = tuple(slices[row] for row in taken)
    return done, slices, tuple(notes)


def _dataset(rows: Sequence[Row], found: Rows) -> datasets.Dataset:
    import datasets

    texts = [row[0] for row in rows]
    columns: dict[str, list[Any]] = {
        "text": [text if isinstance(text, str) else " ".join(text) for text in texts]
    }
    features: dict[str, Any] = {"text": datasets.Value("string")}
    if rows[0][1] is not None:
        columns["text_pair"] = [row[1] for row in rows]
        features["text_pair"] = datasets.Value("string")
    if found.kind == "tokens":
        columns["tokens"] = [list(text) for text in texts]
        features["tokens"] = datasets.List(datasets.Value("string"))
    if found.kind != "language":
        columns["label"] = [row[2] for row in rows]
        features["label"] = _label_feature(found)
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _sliced(test: datasets.Dataset, slices: Sequence[str], config: DataConfig) -> datasets.Dataset:
    return test.add_column(f"{SLICE}{config.slice_by}", list(slices)) if slices else test


def _label_feature(found: Rows) -> Any:
    import datasets

    if found.kind == "questions":
        return {
            "text": datasets.List(datasets.Value("string")),
            "answer_start": datasets.List(datasets.Value("int64")),
        }
    if found.kind in ("multilabel", "tokens"):
        return datasets.List(datasets.Value("int64"))
    return datasets.Value("int64" if found.names else "float32")


def _fingerprint(rows: Mapping[str, Sequence[Row]], found: Rows) -> str:
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(struct.pack("<q", len(data)) + data)

    for name in found.names:
        add(name)
    for split in ("train", "validation", "test"):
        add(split)
        for text, pair, label in rows[split]:
            add(text if isinstance(text, str) else json.dumps(text))
            if pair is not None:
                add(pair)
            if isinstance(label, int | float):
                digest.update(struct.pack("<q", int(label)) if found.names else struct.pack("<f", label))
            else:
                add(json.dumps(label))
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
    return (f"warning: {near} of {len(test)} test rows also occur in train{but_for}, so scores flatter",)


def _texts(row: Row) -> tuple[str, ...]:
    first = row[0] if isinstance(row[0], str) else " ".join(row[0])
    return (first,) if row[1] is None else (first, row[1])
