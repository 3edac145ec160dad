"""What stands behind a report's numbers as tables: parts of the test set, answers that changed."""

from __future__ import annotations

from compress.benchmark.report import Accuracy, Report, Slice
from compress.benchmark.tables import (
    Table,
    difference_text,
    digits_of,
)

READING_PARTS = (
    "The metric on parts of at least 20 test examples (for a label, the share of it that is found), in brackets "
    "against the first line. Lost and won: examples that only the first, or only this one, answers right."
)


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
