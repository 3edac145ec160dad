"""The table of the suite: a pure function of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.distillation_speed.cells import Run
from bench.distillation_speed.methods import METHODS
from compress.benchmark.statistics import paired_ratio

CLOCKS = {"seconds": "wall clock", "cpu_seconds": "processor"}


def table(runs: Sequence[Run], examples: int) -> list[str]:
    """Return the Markdown lines: a row a method, its times beside those of the first.

    Args:
        runs: of all methods, each in every round.
        examples: that a run trains on, epochs counted.
    """
    first = runs[0].method
    ratios = [f"as long as {METHODS[first].title.strip('*')}, {clock}" for clock in CLOCKS.values()]
    head = ["method", "s", "processor s", "examples/s", *ratios, "accuracy, %"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == name]
        failed = next((run.facts["error"] for run in own if "error" in run.facts), None)
        if failed is not None:
            cells = [METHODS[name].title, f"failed: {failed}", *[""] * (len(head) - 2)]
        else:
            medians = [float(np.median(_times(own, clock))) for clock in CLOCKS]
            cells = [
                METHODS[name].title,
                *(f"{median:.1f}" for median in medians),
                f"{examples / medians[0]:.0f}",
            ]
            cells += ["1" if name == first else _ratio(runs, name, first, clock) for clock in CLOCKS]
            cells.append(_accuracy([run.accuracy for run in own if run.accuracy is not None]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio(runs: Sequence[Run], name: str, first: str, clock: str) -> str:
    """Times as long as the first method, with its 95% interval where there are rounds enough."""
    of = {method: {run.round: run for run in runs if run.method == method} for method in (name, first)}
    both = [number for number in of[name] if "error" not in of[first].get(number, of[name][number]).facts]
    slow, fast = (_times([of[method][number] for number in both], clock) for method in (name, first))
    if not len(slow):
        return ""
    ratio, interval = paired_ratio(slow, fast)
    return f"{ratio:.2f}×" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _times(runs: Sequence[Run], clock: str) -> np.ndarray:
    """(rounds, 1) seconds."""
    return np.array([[run.facts[clock]] for run in runs])


def _accuracy(scores: Sequence[float]) -> str:
    """Mean over the seeds and their standard deviation."""
    spread = f" ± {np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):.2f}{spread}"
