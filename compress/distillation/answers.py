"""Teachers that are no model at hand: answers in a file, and the opinions of human raters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compress.data.files import READERS, read_file
from compress.errors import InputError
from compress.tasks.labels import match_labels

if TYPE_CHECKING:
    from collections.abc import Hashable

    import datasets
    from torch import Tensor

    from compress.tasks import Task

RATINGS = "ratings"
SCORE = "score"
_SUM = 1e-2  # by how much probabilities may miss 1, which rounding does
_FLOOR = 1e-4  # the least probability that is taken at its word


def is_answers_file(name: str) -> bool:
    """Say whether a teacher's name means a file of answers."""
    return Path(name).suffix.lower() in READERS and not Path(name).is_dir()


@dataclass(frozen=True)
class Answers:
    """Logits by text, for a teacher of which nothing else is known.

    Args:
        place: where they are from, for messages.
        values: (texts, labels) float32 logits in the labels' order, or (texts, 1) numbers.
        rows: where each text, or pair, stands in `values`.
    """

    place: str
    values: NDArray[np.float32]
    rows: Mapping[Hashable, int]

    def of(self, data: datasets.Dataset) -> AnswersColumn:
        """Return the logits of a split's examples.

        Raises:
            InputError: an example has no answer.
        """
        keys = _keys(data)
        found = np.array([self.rows.get(key, -1) for key in keys], np.int64)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            first = data[int(missing[0])]["text"]
            raise InputError(
                f"{len(missing):,} of {len(keys):,} training texts have no answer, the first is {first[:60]!r}",
                place=self.place,
                remedy="Answers are found by their text: give a row for each text, spelled as in the data.",
            )
        return AnswersColumn(self.values, found)


@dataclass(frozen=True)
class AnswersColumn:
    """The logits of a split's examples: row `rows[i]` of `values` is example i's."""

    values: NDArray[np.float32]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.values[self.rows[index]])


def read_answers(path: Path, task: Task) -> Answers:
    """Read a csv, tsv, jsonl or parquet file of a teacher's answers.

    It has the column `text` (and `text_pair`), and one column for each class, named like it, of logits or of
    probabilities (classes add up to 1 in every row, labels that may hold together need not); for regression the one
    column `score`.

    Raises:
        InputError: a column is missing, a value is no finite number, probabilities do not add up to 1, or a text has
            two answers.
    """
    table = read_file(path)
    names = [name for name in table.columns if name not in ("text", "text_pair")]
    table.column("text")
    if task.labels:
        wanted = [names[i] for i in match_labels(names, task.labels, str(path))]
    else:
        table.column(SCORE)
        wanted = [SCORE]
    values = np.array([[_number(v) for v in table.column(name)] for name in wanted], np.float64).T
    wrong = np.flatnonzero(~np.isfinite(values).all(-1))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} rows have an answer that is no finite number ({table.where(wrong.tolist())})",
            place=str(path),
            remedy="Give a logit or a probability for every class in every row.",
        )
    columns = [list(table.column(n)) for n in ("text", "text_pair") if n in table.columns]
    keys = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    apart = task.rules.compared == "labels"
    if task.labels and not apart and ((values >= 0) & (values <= 1)).all():
        wrong = np.flatnonzero(~np.isclose(values.sum(-1), 1, atol=_SUM))
        if len(wrong):
            raise InputError(
                f"{len(wrong)} rows of probabilities do not add up to 1 ({table.where(wrong.tolist())})",
                place=str(path),
                remedy="Give the probability of every class, or logits.",
            )
    rows: dict[Hashable, int] = {}
    for row, key in enumerate(keys):
        if not np.array_equal(values[rows.setdefault(key, row)], values[row]):
            raise InputError(
                f"a text has two different answers ({table.where([rows[key], row])})",
                place=str(path),
                remedy="Keep one of them.",
            )
    return Answers(str(path), as_logits(values, apart), rows)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return np.nan


def ratings(data: str, task: Task) -> Answers:
    """Return what human raters said of a packaged data set: each rater's verdict is one vote.

    With v of n votes for a class its probability is (v + ½) / (n + ½ L), the mean under Jeffreys' prior.

    Raises:
        InputError: the data set has no single raters.
    """
    names, by_text = require_votes(data)
    order = match_labels(names, task.labels, RATINGS)
    counts = np.array(list(by_text.values()), np.float64)[:, order] + 0.5
    return Answers(
        RATINGS,
        as_logits(counts / counts.sum(-1, keepdims=True)),
        {text: row for row, text in enumerate(by_text)},
    )


def require_votes(data: str) -> tuple[tuple[str, ...], dict[str, tuple[float, ...]]]:
    """Return the class names of a packaged data set, and for each text its votes in that order.

    Raises:
        InputError: it has no single raters.
    """
    from compress.data.packaged import read_votes

    votes = read_votes(data)
    if votes is None:
        raise InputError(
            f"{data} does not say what single raters thought",
            place="teacher",
            remedy="movie-reviews does; for your own data give a file of probabilities as the teacher.",
        )
    return votes


def as_logits(values: NDArray[np.float64], apart: bool = False) -> NDArray[np.float32]:
    """Return logits (rows, L) float32 of logits, or of probabilities: numbers in [0, 1].

    Args:
        values: (rows, L); probabilities of classes add up to 1 in every row.
        apart: whether each label is a yes or no of its own.
    """
    within = bool((values >= 0).all() and (values <= 1).all())
    if apart and within:
        sure = np.clip(values, _FLOOR, 1 - _FLOOR)
        values = np.log(sure) - np.log1p(-sure)
    elif values.shape[-1] > 1 and within:
        values = np.log(np.clip(values, _FLOOR, None))
    return values.astype(np.float32)


def _keys(data: datasets.Dataset) -> Sequence[Hashable]:
    texts = list(data["text"])
    return list(zip(texts, data["text_pair"], strict=True)) if "text_pair" in data.column_names else texts
