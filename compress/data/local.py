"""Local sources: one data file, a folder of split files, or a folder saved by `datasets`."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.files import READERS, read_file
from compress.data.table import Table
from compress.errors import InputError

if TYPE_CHECKING:
    import datasets

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Words in file and split names, and the split each means."""

_OTHER_FILES = {".xlsx", ".gz", ".zip", ".arrow", ".pkl"}  # a name that ends so means a file


def looks_like_path(source: str) -> bool:
    """Whether a name that does not exist was meant as a local path."""
    return (
        source.startswith((".", "/", "~"))
        or Path(source).suffix.lower() in {*READERS, *_OTHER_FILES}
        or not re.fullmatch(r"[\w.-]+(/[\w.-]+){0,2}", source)
    )


def read_local(path: Path) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Read a local path into tables by split.

    Args:
        path: a file of a kind in `READERS`, or a folder.

    Returns:
        Tables under `train` and, where there are such, `validation` and `test`; notes.

    Raises:
        InputError: nothing is there, or it is not data.
    """
    if path.is_file():
        return {"train": read_file(path)}, ()
    if not path.is_dir():
        raise InputError("no such file or folder", place=str(path), remedy=near(path))
    if is_saved(path):
        return tables_of(open_saved(path), str(path), editable=True)
    files: dict[str, list[Path]] = defaultdict(list)
    data = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    for file in data:
        if split := split_of(file.stem):
            files[split].append(file)
    if "train" not in files:
        names = ", or give one of: " + ", ".join(file.name for file in data[:8]) if data else ""
        raise InputError(
            "the folder has no train file",
            place=str(path),
            remedy=f"Name the files train.*, validation.*, test.*{names}",
        )
    return {split: _joined(split, parts) for split, parts in files.items()}, ()


def tables_of(splits: object, place: str, *, editable: bool) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Tables of a `datasets.DatasetDict` or `Dataset`.

    Args:
        splits: the loaded object; a lone Dataset counts as train.
        place: its name, for messages.
        editable: see `Table`.

    Raises:
        InputError: there is no train split.
    """
    import datasets

    if isinstance(splits, datasets.Dataset):
        return {"train": _table(splits, place, editable)}, ()
    assert isinstance(splits, datasets.DatasetDict)
    tables: dict[str, Table] = {}
    notes = []
    for name, split in splits.items():
        meaning = split_of(str(name))
        if meaning and meaning not in tables and len(split):
            tables[meaning] = _table(split, f"{place} ({name})", editable)
            if name != meaning:
                notes.append(f"{meaning}: the source's split {name!r}")
        else:
            notes.append(f"split {name!r} is not used")
    if "train" not in tables:
        raise InputError(f"no train split among {', '.join(map(str, splits))}", place=place)
    return tables, tuple(notes)


def _table(split: object, place: str, editable: bool) -> Table:
    import datasets

    assert isinstance(split, datasets.Dataset)
    arrow = split.with_format("arrow")[:]
    kinds = {name: getattr(feature, "feature", feature) for name, feature in split.features.items()}
    class_names = {
        name: tuple(feature.names)
        for name, feature in kinds.items()
        if isinstance(feature, datasets.ClassLabel) and feature.names
    }
    columns = {name: arrow.column(name).to_pylist() for name in split.column_names}
    return Table(place, columns, class_names, editable=editable)


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `datasets`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def open_saved(path: Path) -> datasets.Dataset | datasets.DatasetDict:
    """Memory-map a folder that `datasets` wrote.

    Raises:
        InputError: it is damaged.
    """
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"a saved data set that does not load ({error})", place=str(path)) from error


def split_of(name: str) -> str | None:
    """The split that a name means: `sts-dev` → validation, `train-00000-of-00002` → train."""
    words = re.split(r"[-_.\s]", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def _joined(split: str, files: Sequence[Path]) -> Table:
    shards = [re.sub(r"-\d+-of-\d+$", "", file.stem) for file in files]
    if len(files) > 1 and (len(set(shards)) > 1 or shards[0] == files[0].stem):
        raise InputError(
            f"more than one file may be the {split} split: {', '.join(file.name for file in files)}",
            place=str(files[0].parent),
            remedy="Keep one, or move the others elsewhere",
        )
    tables = [read_file(file) for file in files]
    if len(tables) == 1:
        return tables[0]
    columns = {name: [v for table in tables for v in table.column(name)] for name in tables[0].columns}
    return Table(str(files[0].parent), columns, tables[0].class_names, typed=tables[0].typed)


def near(path: Path) -> str:
    """Say what lies where a missing path was looked for."""
    parent = path.parent
    if not parent.is_dir():
        return f"There is no folder {parent} either"
    beside = sorted(entry.name for entry in parent.iterdir())
    close = difflib.get_close_matches(path.name, beside, n=3)
    return f"Did you mean {' or '.join(close)}?" if close else f"Looked in {parent.resolve()}"
