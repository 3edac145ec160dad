"""What stands behind a report's numbers as tables: passes, parts of the test set, answers that changed."""

from __future__ import annotations

from collections.abc import Mapping

from compress.benchmark.evidence import unpacked
from compress.benchmark.report import Accuracy, Model, Report, Slice
from compress.benchmark.tables import (
    Table,
    accuracy_of,
    difference_text,
    digits_of,
    entry_rows,
    shape_name,
    shape_of,
)

READING_PARTS = (
    "The metric on parts of at least 20 test examples (for a label, the share of it that is found), in brackets "
    "against the first line. Lost and won: examples that only the first, or only this one, answers right."
)


def steps(report: Report) -> Table | None:
    """Return one line for each model that another benched one became by further passes; None where there is none.

    Time and size are against the model before, in the runtime that both were benched in; the metric has a paired test.
    """
    models = {model.name: model for model in report.models}
    lines = []
    for rows in entry_rows(report):
        row = rows[0]
        before = _before(models, row.name)
        earlier = next(
            (r for r in report.rows if before and (r.name, r.runtime) == (before.name, row.runtime)), None
        )
        if before is None or earlier is None or shape_of(earlier) != shape_of(row):
            continue
        passes = " + ".join(name for name, _ in models[row.name].steps[len(before.steps) :])
        line = [passes, f"{before.name} → {row.name}", row.runtime]
        line += [
            f"{row.latency_ms.p50 / earlier.latency_ms.p50:.2f}×",
            f"{row.size_mb / earlier.size_mb:.2f}×",
        ]
        now, then = accuracy_of(report, row), accuracy_of(report, earlier)
        change = "–"
        if now and then and now.answers and then.answers:
            difference = unpacked(now.answers).difference(unpacked(then.answers), report.seed)
            change = difference_text(difference, now.metric.name)
        lines.append([*line, change])
    scored = report.accuracy[0].metric.name if report.accuracy else "metric"
    head = ["pass", "model", "runtime", f"ms {shape_name(report.rows[0])}", "MB", scored] if lines else []
    return Table(head, lines, 3) if lines else None


def _before(models: Mapping[str, Model], name: str) -> Model | None:
    """Return the benched model that this one was made of by the fewest passes."""
    if name not in models:
        return None
    own = models[name].steps
    origins = [
        m for m in models.values() if len(m.steps) < len(own) and own[: len(m.steps)] == m.steps and m.steps
    ]
    return max(origins, key=lambda model: len(model.steps), default=None)


def parts(report: Report) -> Table | None:
    """Return one line for each entry with its metric on each part of the test set; None where nothing is known."""
    known = [(scored, scored.quality) for scored in report.accuracy if scored.quality]
    if not known:
        return None
    slices = [(part.by, part.value, part.examples) for part in known[0][1].slices]
    sure = any(quality.divergence is not None for _, quality in known)
    head = ["model", "runtime", *(f"{by} {value} ({count:,})" for by, value, count in slices)]
    head += ["lost", "won", "KL to first", "calibration error"] if sure else []
    lines = []
    for scored, quality in known:
        line = [scored.name, scored.runtime, *map(_slice_text, quality.slices)]
        if sure:
            if scored.difference_with_first is None or quality.divergence is None:
                line += ["–"] * 3
            else:
                line += [str(quality.lost), str(quality.won), f"{quality.divergence:.3f}"]
            line += ["–" if quality.calibration_error is None else f"{quality.calibration_error:.1f}%"]
        lines.append(line)
    return Table(head, lines)


def flips(accuracy: Accuracy) -> Table:
    """Return the examples that an entry answers otherwise than the first."""
    found = accuracy.quality.flips if accuracy.quality else ()
    lines = [[f.text, f.label, f.first, f.now, f"{f.before:.2f} → {f.after:.2f}"] for f in found]
    return Table(
        ["text", "truth", "first says", "this one says", "probability of the first's answer"], lines, 4
    )


def _slice_text(part: Slice) -> str:
    digits = digits_of(part.metric.name)
    change = difference_text(part.difference_with_first, part.metric.name)
    return f"{part.metric.value:.{digits}f}" + ("" if part.difference_with_first is None else f" ({change})")


def robustness(report: Report) -> Table | None:
    """Return one line for each entry with its metric on noisy texts; None where there were none."""
    known = [
        (scored, scored.quality) for scored in report.accuracy if scored.quality and scored.quality.robustness
    ]
    if not known:
        return None
    kinds = [one.noise for one in known[0][1].robustness]
    lines = []
    for scored, quality in known:
        digits = digits_of(scored.metric.name)
        cells = [
            f"{one.metric.value:.{digits}f} ({difference_text(one.difference_with_clean, scored.metric.name)})"
            for one in quality.robustness
        ]
        lines.append([scored.name, scored.runtime, f"{scored.metric.value:.{digits}f}", *cells])
    return Table(["model", "runtime", "as it is", *kinds], lines)
