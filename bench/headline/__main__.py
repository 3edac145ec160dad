"""How small and how fast mpnet-base becomes, and what that costs; writes `bench/results/headline.md`.

python -m bench.headline                                   # all three; some hours on 2 cores, resumes where it was
python -m bench.headline --data stsb --work runs/headline   # one; the others' lines stay as they were measured

Each set has its recipe in `recipes/headline/`, which any `run` makes too. What its export leaves is timed beside the
fine-tuned teacher, float32 in torch and in ONNX Runtime: one thread, one text a call, as long as the test set's are.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.no_retraining.models import ROOT
from bench.writing import machine_line, write_result
from compress.artifact import read_manifest
from compress.benchmark import BenchConfig, Report, Target
from compress.benchmark.kept import bench_once
from compress.benchmark.markdown import to_table
from compress.benchmark.report import Row
from compress.benchmark.shapes import TEXTS
from compress.benchmark.tables import Table, accuracy_of, metric_text, number, speedup_text
from compress.data import load_data
from compress.running import run

RECIPES = ROOT / "recipes" / "headline"
FASTER, SMALLER, KEPT = 30.0, 30.0, 99.0  # times, times, percent of the teacher's metric
TEACHER, SHIPPED = "teacher", "shipped"
INTRODUCTION = f"""\
# The headline: from mpnet-base to a file to ship

`python -m bench.headline`; recipes in `recipes/headline/`

The teacher is mpnet-base, fine-tuned, float32 in torch; what is shipped runs in ONNX Runtime. One thread, one text of
the test set a call; speed-ups with 95% intervals over rounds. The share of the metric that is kept has the interval of
the paired difference. Sizes are of all the files that a runtime reads. The aim is {FASTER:.0f} times as fast and
{SMALLER:.0f} times smaller at {KEPT:.0f}% of the metric.
"""
HEAD = ["data", "metric", "teacher", "shipped", "kept", "faster", "than it in ORT", "MB", "smaller", "aim"]


@dataclass(frozen=True)
class Result:
    """A set's three rows on texts: teacher in torch, teacher in ONNX Runtime, what is shipped there."""

    data: str
    report: Report

    def row(self, name: str, runtime: str) -> Row:
        """Return a model's row on texts."""
        return next(
            row
            for row in self.report.rows
            if (row.name, row.runtime, row.sequence_length) == (name, runtime, TEXTS.sequence_length)
        )

    def cells(self) -> list[str]:
        """Return the set's line of the table."""
        first, between = self.row(TEACHER, "torch"), self.row(TEACHER, "onnxruntime")
        last = self.row(SHIPPED, "onnxruntime")
        before, after = accuracy_of(self.report, first), accuracy_of(self.report, last)
        assert before is not None
        assert after is not None
        assert after.difference_with_first is not None
        assert last.speedup_vs_first is not None
        whole = before.metric.value
        kept, low, high = (
            100 * (whole + change) / whole
            for change in (after.difference_with_first.value, *after.difference_with_first.ci95)
        )
        missed = {
            "speed": last.speedup_vs_first.value < FASTER,
            "size": last.smaller_vs_first < SMALLER,
            before.metric.name: kept < KEPT,
        }
        return [
            self.data,
            before.metric.name,
            metric_text(before.metric),
            metric_text(after.metric),
            f"{kept:.1f}% [{low:.1f}, {high:.1f}]",
            speedup_text(last.speedup_vs_first),
            f"{between.latency_ms.p50 / last.latency_ms.p50:.1f}×",
            f"{number(first.size_mb)} → {number(last.size_mb)}",
            f"{last.smaller_vs_first:.1f}×",
            ", ".join(f"misses {name}" for name, is_missed in missed.items() if is_missed) or "met",
        ]


def measure(data: str, work: Path, seconds: float) -> Result:
    """Make what the set's recipe makes, as far as it is not there, and time and score it beside the teacher."""
    made = run(RECIPES / f"{data}.yaml", work / data)
    teacher = made.steps[0]
    manifest = read_manifest(teacher)
    assert manifest.task is not None
    assert manifest.data is not None
    loaded = load_data(manifest.data).aligned(manifest.task, data)
    targets = [
        Target(TEACHER, teacher, ("torch", "onnxruntime")),
        Target(SHIPPED, made.steps[-1], ("onnxruntime",)),
    ]
    config = BenchConfig(batch_sizes=(1,), sequence_lengths=(32,), texts=64, threads=1, seconds=seconds)
    report = bench_once(
        targets, config, loaded.scored_test, loaded.fingerprint, work / data / "bench", seed=0
    )
    return Result(data, report)


def text_of(lines: dict[str, dict[str, Any]]) -> str:
    """Return the table of all sets, measured now or earlier, and the machine of each.

    Args:
        lines: for each set its "cells", as `HEAD` has them, and its "machine".
    """
    table = to_table(Table(HEAD, [lines[data]["cells"] for data in sorted(lines)]))
    machines: dict[str, list[str]] = {}
    for data in sorted(lines):
        machines.setdefault(lines[data]["machine"], []).append(data)
    where = [f"{', '.join(sets)}: {machine}\n" for machine, sets in machines.items()]
    return "\n".join([INTRODUCTION, table, "", *where])


def main() -> None:
    """Measure, print and write the table."""
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=known, default=known, metavar="D")
    parser.add_argument("--seconds", type=float, default=120, help="of timed runs for each set")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "headline")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "headline.md")
    options = parser.parse_args()
    kept = options.out.with_suffix(".json")
    lines = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for data in options.data:
        cells = measure(data, options.work.absolute(), options.seconds).cells()
        lines[data] = {"cells": cells, "machine": machine_line()}
    write_result(text_of(lines), options.out)
    kept.write_text(json.dumps(lines, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
