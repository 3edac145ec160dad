"""The table: each row's score, its spread over seeds, and its difference to labels alone with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.distillation.cells import Cell, score
from bench.distillation.rows import ROWS, SETTINGS
from compress.benchmark.statistics import percentile_interval, spearman_resamples

_RESAMPLES = 2_000
BASELINE = "labels"
Group = tuple[str, str, str]  # data, teacher, student
Found = dict[Group, dict[str, list[Cell]]]


def table(found: Found, teachers: dict[tuple[str, str], Cell]) -> list[str]:
    """Return Markdown lines for all that was measured.

    Args:
        found: for each group the cells of its rows, one a seed.
        teachers: a teacher's own answers by data and name.
    """
    lines = []
    for (data, teacher, student), rows in found.items():
        metric = SETTINGS[data].metric
        dense = _shown(score(teachers[data, teacher], metric), metric)
        by = SETTINGS[data].teachers[teacher].model
        lines += ["", f"## {data}, {student}, taught by {by} ({dense})", ""]
        lines.append(f"| row | {metric} | spread | against labels alone (95%) | seeds | minutes |")
        lines.append("|---|---|---|---|---|---|")
        for name in (name for name in ROWS if name in rows):
            cells = rows[name]
            scores = [score(cell, metric) for cell in cells]
            spread = f"± {_shown(float(np.std(scores, ddof=1)), metric)}" if len(scores) > 1 else ""
            apart = ""
            if name != BASELINE and BASELINE in rows:
                low, high = difference_interval(cells, rows[BASELINE], metric)
                base = np.mean([score(cell, metric) for cell in rows[BASELINE]])
                gain, bounds = float(np.mean(scores) - base), (low, high)
                apart = f"{_shown(gain, metric, True)} [{', '.join(_shown(each, metric, True) for each in bounds)}]"
            minutes = np.mean([cell.seconds for cell in cells]) / 60
            mean = _shown(float(np.mean(scores)), metric)
            lines.append(
                f"| {ROWS[name].title} | {mean} | {spread} | {apart} | {len(cells)} | {minutes:.0f} |"
            )
    return lines


def difference_interval(cells: Sequence[Cell], base: Sequence[Cell], metric: str) -> tuple[float, float]:
    """Return the 95% interval of the difference of two rows' means over seeds, by a paired bootstrap over test rows."""
    if metric == "accuracy":
        differences = _right(cells) - _right(base)
        generator = np.random.default_rng(0)
        drawn = generator.integers(0, len(differences), (_RESAMPLES, len(differences)))
        resampled: NDArray[np.float64] = 100 * differences[drawn].mean(-1)
    else:
        resampled = _correlations(cells) - _correlations(base)
    interval = percentile_interval(resampled)
    return interval[0], interval[1]


def _right(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """Share of the seeds that answer each test row right."""
    rows: NDArray[np.float64] = np.mean(
        [cell.answers.argmax(-1) == cell.targets for cell in cells], axis=0, dtype=np.float64
    )
    return rows


def _correlations(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """The same resamples of the test rows for all: seed 0."""
    each = [
        spearman_resamples(
            cell.answers.reshape(-1).astype(np.float64), cell.targets.astype(np.float64), 0, _RESAMPLES
        )
        for cell in cells
    ]
    mean: NDArray[np.float64] = np.mean(each, axis=0)
    return mean


def _shown(value: float, metric: str, signed: bool = False) -> str:
    digits = 2 if metric == "accuracy" else 4
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
