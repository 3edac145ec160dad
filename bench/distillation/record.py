"""What was measured of each row, kept beside the table, so that a run measures only what it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.distillation.cells import Cell, resamples, score
from bench.distillation.rows import SETTINGS
from compress.benchmark.statistics import percentile_interval

_RESAMPLES = 2_000
BASELINE = "labels"
Group = tuple[str, str, str]  # data, teacher, student
Found = dict[Group, dict[str, list[Cell]]]


@dataclass(frozen=True)
class Record:
    """A row of the table as it was measured.

    Attributes:
        data: packaged name.
        teacher: short name.
        student: name in the setting.
        row: name in `ROWS`.
        scores: one a seed, in percent or a correlation.
        against_labels: the difference of the means over seeds and its 95% interval (lower, upper end); none for the
            baseline, and where that was not measured in the same run.
        teacher_score: of the teacher that taught.
        machine: what it was measured on.
    """

    data: str
    teacher: str
    student: str
    row: str
    scores: list[float]
    against_labels: list[float] | None
    teacher_score: float
    machine: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what names the row."""
        return self.data, self.teacher, self.student, self.row


def measured(found: Found, teachers: dict[tuple[str, str], Cell], machine: str) -> list[Record]:
    """Return a record for each row of cells.

    Args:
        found: for each group the cells of its rows, one a seed.
        teachers: a teacher's own answers by data and name.
        machine: what trained them.
    """
    return [
        Record(
            *group,
            row,
            [score(cell, SETTINGS[group[0]].metric) for cell in cells],
            _difference(cells, rows.get(BASELINE), SETTINGS[group[0]].metric) if row != BASELINE else None,
            score(teachers[group[:2]], SETTINGS[group[0]].metric),
            machine,
        )
        for group, rows in found.items()
        for row, cells in rows.items()
    ]


def merged(earlier: Iterable[Record], now: Iterable[Record]) -> list[Record]:
    """Return all rows; of one that was measured twice the one that says more: a difference, seeds, then the newer."""
    rows = {record.key: record for record in earlier}
    for record in now:
        if _weight(record) >= _weight(rows.get(record.key, record)):
            rows[record.key] = record
    return list(rows.values())


def _weight(record: Record) -> tuple[bool, int]:
    return record.against_labels is not None, len(record.scores)


def read(file: Path) -> list[Record]:
    """Return what `write` left there; nothing where there is no file."""
    if not file.exists():
        return []
    return [Record(**each) for each in json.loads(file.read_text(encoding="utf-8"))]


def write(records: Iterable[Record], file: Path) -> None:
    """Keep the records."""
    file.write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n", encoding="utf-8")


def difference_interval(cells: Sequence[Cell], base: Sequence[Cell], metric: str) -> tuple[float, float]:
    """Return the 95% interval of the difference of two rows' means over seeds, by a paired bootstrap over test rows."""
    means = [
        np.mean([resamples(cell, metric, _RESAMPLES) for cell in each], axis=0) for each in (cells, base)
    ]
    return percentile_interval(means[0] - means[1])


def _difference(cells: Sequence[Cell], base: Sequence[Cell] | None, metric: str) -> list[float] | None:
    if base is None:
        return None
    gain = np.mean([score(cell, metric) for cell in cells]) - np.mean([score(cell, metric) for cell in base])
    return [float(gain), *difference_interval(cells, base, metric)]
