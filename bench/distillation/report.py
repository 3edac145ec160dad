"""The table: each row's score, its spread over seeds, and its difference to labels alone with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.distillation.cells import Cell, resamples, score
from bench.distillation.rows import ROWS, SETTINGS
from compress.benchmark.statistics import percentile_interval

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
        lines.append(f"| row | {metric} | spread | against labels alone (95%) | seeds |")
        lines.append("|---|---|---|---|---|")
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
            mean = _shown(float(np.mean(scores)), metric)
            lines.append(f"| {ROWS[name].title} | {mean} | {spread} | {apart} | {len(cells)} |")
    return lines


def difference_interval(cells: Sequence[Cell], base: Sequence[Cell], metric: str) -> tuple[float, float]:
    """Return the 95% interval of the difference of two rows' means over seeds, by a paired bootstrap over test rows."""
    means = [
        np.mean([resamples(cell, metric, _RESAMPLES) for cell in each], axis=0) for each in (cells, base)
    ]
    return percentile_interval(means[0] - means[1])


def _shown(value: float, metric: str, signed: bool = False) -> str:
    digits = 2 if metric == "accuracy" else 4
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
