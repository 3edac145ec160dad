"""How often `compare` raises a false alarm, and how often it catches a model that became a fifth slower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress import api
from compress.benchmark import BenchConfig, Target, run_bench
from compress.benchmark.comparison import Limits, compare
from compress.benchmark.report import Report, read_report
from compress.benchmark.statistics import wilson_interval
from compress.display import say
from compress.passes.export import Export
from compress.pipeline import Step

LAYERS = {"teacher": 6, "student": 5, "slower": 6}
_SHAPES = {"batch_sizes": (1,), "sequence_lengths": (32, 128)}


def _folders(work: Path) -> dict[str, Path]:
    """Make the models: five layers, and six, which is a fifth slower in all that grows with layers."""
    made = {}
    for layers in sorted(set(LAYERS.values())):
        folder = work / f"{layers}-layers"
        if not (folder / "manifest.json").exists():
            source = work / f"{layers}-layers-float"
            save_layers(layers, source)
            api.apply([Step(Export(), folder)], source)
        made[layers] = folder
    return {name: made[layers] for name, layers in LAYERS.items()}


def save_layers(layers: int, folder: Path) -> None:
    """Save minilm-l6's first layers as a model of its own."""
    from compress.artifact import load, save
    from compress.distillation.student import make_student

    save(make_student(f"teacher:{','.join(map(str, range(layers)))}", load("minilm-l6")), folder)


def measure(work: Path, repeats: int, seconds: float) -> list[tuple[Report, Report]]:
    """Bench the models again and again; each time also with the student replaced by the slower one.

    Returns:
        (as it was, slower) reports, the student's name in both.
    """
    folders = _folders(work)
    config = BenchConfig(runtimes=("onnxruntime",), rounds=40, seconds=seconds, **_SHAPES)
    pairs = []
    for number in range(repeats):
        found = []
        for student in ("student", "slower"):
            out = work / f"report-{number}-{student}"
            if not (out / "report.json").exists():
                say(f"bench {number + 1} of {repeats}, {student}")
                targets = [Target("teacher", folders["teacher"]), Target("student", folders[student])]
                run_bench(targets, config, None, out, number)
            found.append(read_report(out / "report.json"))
        pairs.append((found[0], found[1]))
    return pairs


def table(pairs: Sequence[tuple[Report, Report]], limits: Limits) -> list[str]:
    """Return Markdown lines: each report is compared with the one after it, and with its slower successor."""
    alarms = [bool(compare(a, b, limits).worse) for (a, _), (b, _) in zip(pairs, pairs[1:], strict=False)]
    caught = [
        bool(compare(a, slow, limits).worse) for (a, _), (_, slow) in zip(pairs, pairs[1:], strict=False)
    ]
    slower = [
        change.value
        for (a, _), (_, slow) in zip(pairs, pairs[1:], strict=False)
        for change in compare(a, slow, limits).changes
        if change.what == "time"
    ]
    lines = ["| | comparisons | failed | share (95%) |", "|---|---:|---:|---:|"]
    for name, found in (("equal models", alarms), ("the second is slower", caught)):
        low, high = wilson_interval(sum(found), len(found))
        share = f"{100 * sum(found) / len(found):.0f}% [{100 * low:.0f}, {100 * high:.0f}]"
        lines.append(f"| {name} | {len(found)} | {sum(found)} | {share} |")
    lines += ["", f"Measured, the slower one took {min(slower):.2f} to {max(slower):.2f} times as long."]
    return lines
