"""From a bench to one recommendation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compress.benchmark.report import Report, Row
from compress.benchmark.tables import accuracy_of, entry_rows, shape_name
from compress.tasks import in_percent


@dataclass(frozen=True)
class Verdict:
    """What speaks for or against one entry of a bench.

    Attributes:
        name, runtime: the entry.
        speedup: geometric mean over the shapes of its speed-up against the first entry.
        against: why it is not recommended, whatever its speed; empty where it may be.
    """

    name: str
    runtime: str
    speedup: float
    against: tuple[str, ...]


def judge(report: Report, max_drop: float) -> list[Verdict]:
    """Judge every entry of a bench against the first, float32 in ONNX Runtime.

    An entry may be recommended where its speed-up's interval lies above 1 at every shape and its metric is at
    most `max_drop` points (hundredths of a correlation) below the first's. Nothing speaks against the first itself.
    """
    entries = entry_rows(report)
    verdicts = [Verdict(entries[0][0].name, entries[0][0].runtime, 1.0, ())]
    for rows in entries[1:]:
        against = [reason for row in rows if (reason := _slower(row))]
        accuracy = accuracy_of(report, rows[0])
        difference = accuracy.difference_with_first if accuracy else None
        if accuracy is not None and difference is not None:
            point = 1.0 if in_percent(accuracy.metric.name) else 0.01
            change, low, high = (value / point for value in (difference.value, *difference.ci95))
            if -change > max_drop:
                against.append(f"{change:+.2f} points [{low:+.2f}, {high:+.2f}]")
        ratios = [row.speedup_vs_first.value for row in rows if row.speedup_vs_first]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 0.0
        verdicts.append(Verdict(rows[0].name, rows[0].runtime, mean, tuple(against)))
    return verdicts


def best(verdicts: list[Verdict]) -> Verdict:
    """Return the fastest entry that nothing speaks against; the first where there is no other."""
    return max((verdict for verdict in verdicts if not verdict.against), key=lambda each: each.speedup)


def _slower(row: Row) -> str:
    """Say where an entry is not shown to be faster than the first; empty where it is."""
    ratio = row.speedup_vs_first
    if ratio is None or ratio.ci95 is None:
        return f"{shape_name(row)}: no interval for its speed"
    low, high = ratio.ci95
    return "" if low > 1 else f"{shape_name(row)}: {ratio.value:.2f}× [{low:.2f}, {high:.2f}]"
