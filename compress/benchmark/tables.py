"""A report as tables of text, for the terminal, Markdown and HTML alike.

A claim is made only where its interval shows it: else a speedup reads "≈1" and a difference "n.s.".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.benchmark.report import Accuracy, Difference, Metric, Ratio, Report, Row
from compress.benchmark.shapes import Shape
from compress.tasks import in_percent

_TOKENS = 128  # of the text whose cost is told


@dataclass(frozen=True)
class Table:
    """Column heads and rows of cells; the first `text_columns` columns are text, the others numbers."""

    head: list[str]
    rows: list[list[str]]
    text_columns: int = 2


def shape_name(row: Row) -> str:
    """Return batch × length, `8×128`, or `1×text`."""
    return str(shape_of(row))


def entry_rows(report: Report) -> list[list[Row]]:
    """Return the rows of each entry, in the report's order."""
    entries: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        entries.setdefault((row.name, row.runtime), []).append(row)
    return list(entries.values())


def accuracy_of(report: Report, row: Row) -> Accuracy | None:
    """Return the accuracy of the row's entry."""
    return next((a for a in report.accuracy if (a.name, a.runtime) == (row.name, row.runtime)), None)


def summary(report: Report) -> Table:
    """Return one line for each model × runtime, with the latency at every shape, the speedup at the first."""
    shapes = list(dict.fromkeys(shape_name(row) for row in report.rows))
    scored = report.accuracy[0].metric.name if report.accuracy else ""
    head = ["model", "runtime", "MB", "smaller"]
    head += [scored, "against first", "agree"] if scored else []
    head += [f"ms {shape}" for shape in shapes]
    head += [f"speedup {shape}" for shape in shapes[:1]] + ["RSS MB", "load s"]
    lines = []
    for index, rows in enumerate(entry_rows(report)):
        first, by_shape = rows[0], {shape_name(row): row for row in rows}
        line = [first.name, first.runtime, number(first.size_mb), f"{first.smaller_vs_first:.2f}×"]
        if scored:
            line += _accuracy_cells(accuracy_of(report, first))
        line += [number(by_shape[shape].latency_ms.p50) if shape in by_shape else "–" for shape in shapes]
        speedup = by_shape[shapes[0]].speedup_vs_first if shapes[0] in by_shape else None
        line += ["1" if index == 0 else speedup_text(speedup)]
        lines.append([*line, f"{first.peak_rss_mb:.0f}", f"{first.load_s:.2f}"])
    return Table(head, lines)


def brief(report: Report) -> Table:
    """Return the summary's columns that a terminal has room for: latency at the first shape only."""
    table = summary(report)
    times = [index for index, head in enumerate(table.head) if head.startswith("ms ")]
    dropped = {table.head.index("smaller"), table.head.index("load s"), *times[1:]}
    kept = [index for index in range(len(table.head)) if index not in dropped]
    return Table([table.head[i] for i in kept], [[row[i] for i in kept] for row in table.rows])


def details(report: Report) -> Table:
    """Return one line for each row of the report; device and threads, alike for all, are in `method`."""
    head = ["model", "runtime", "shape", "p50 ms", "p95 ms", "p99 ms", "examples/s"]
    head += ["speedup", "MB", "parameters", "RSS MB", "load s", "first answer s"]
    counted = any(row.energy_mj is not None for row in report.rows)
    head += ["mJ a call"] if counted else []
    lines = []
    first = report.rows[0] if report.rows else None
    for row in report.rows:
        itself = first is not None and (row.name, row.runtime) == (first.name, first.runtime)
        times = row.latency_ms
        line = [row.name, row.runtime, shape_name(row)]
        line += [number(times.p50), number(times.p95), number(times.p99), number(row.throughput)]
        line += ["1" if itself else speedup_text(row.speedup_vs_first), number(row.size_mb)]
        line += [parameters_text(row.parameters)]
        answered = "–" if row.first_s is None else f"{row.first_s:.2f}"
        line += [f"{row.peak_rss_mb:.0f}", f"{row.load_s:.2f}", answered]
        if counted:
            line.append("–" if row.energy_mj is None else number(row.energy_mj))
        lines.append(line)
    return Table(head, lines, text_columns=2)


def load(report: Report) -> Table | None:
    """Return one line for each entry: answers a second and p95 by number of callers; None where none was asked."""
    if not report.load:
        return None
    callers = list(dict.fromkeys(each.callers for each in report.load))
    length = report.load[0].sequence_length
    head = ["model", "runtime", *(f"{n} caller{'s' * (n > 1)}: answers/s, p95 ms" for n in callers)]
    found = {(each.name, each.runtime, each.callers): each for each in report.load}
    lines = []
    for name, runtime in dict.fromkeys((each.name, each.runtime) for each in report.load):
        cells = [found[name, runtime, n] for n in callers]
        lines.append([f"{name}", runtime, *(f"{number(c.throughput)}, {number(c.p95_ms)}" for c in cells)])
    return Table([*head[:2], *(f"1×{length}, {text}" for text in head[2:])], lines)


def weights(report: Report) -> Table | None:
    """Return one line for each model: MB of weights by part, and what a text of 128 tokens costs in its layers."""
    parts = list(dict.fromkeys(part for model in report.models for part in model.bytes))
    if not parts:
        return None
    lines = [
        [
            model.name,
            *(f"{model.bytes.get(part, 0) / 1e6:.2f}" for part in parts),
            f"{2 * model.multiply_adds(_TOKENS) / 1e9:.2f}",
        ]
        for model in report.models
    ]
    return Table(["MB of weights", *parts, f"GFLOP at 1×{_TOKENS}"], lines, 1)


def shape_of(row: Row) -> Shape:
    """Return the shape of a row."""
    return Shape(row.batch_size, row.sequence_length)


def machine(report: Report) -> Table:
    """Return the machine's fingerprint, a line each."""
    lines = []
    for name, value in report.machine.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items())
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value)) or "–"
        lines.append([name.replace("_", " "), str(value)])
    return Table(["machine", ""], lines)


def method(report: Report) -> str:
    """Say in a sentence or two how numbers came to be."""
    config = report.config
    text = (
        f"{config.device}, {config.threads} thread{'s' if config.threads > 1 else ''}, "
        f"shapes are batch × tokens, ms is the median; seed {report.seed}. Each model runs in a process of "
        "its own; models take turns in rounds. Speedups are against the first line, [95% interval of the "
        "rounds' ratios]; ≈1: the interval includes 1."
    )
    if report.accuracy:
        scored = report.accuracy[-1]
        text += f" Scored on {scored.examples} test examples at batch {config.accuracy_batch_size}; "
        text += "± is half the 95% interval."
        if scored.difference_with_first:
            text += f" n.s.: no difference shown at 5% ({scored.difference_with_first.test})."
    return text


def number(value: float) -> str:
    """Return a number with three significant digits or none of its integer digits lost."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def parameters_text(count: int | None) -> str:
    """Return a count in millions."""
    return "–" if count is None else f"{count / 1e6:.2f} M"


def speedup_text(speedup: Ratio | None) -> str:
    """Return a speedup with its interval; "≈1" where that includes 1, no claim where there is none."""
    if speedup is None:
        return "–"
    if speedup.ci95 is None:
        return f"({speedup.value:.2f}×, no interval)"
    interval = f"[{speedup.ci95[0]:.2f}, {speedup.ci95[1]:.2f}]"
    return f"{speedup.value:.2f}× {interval}" if speedup.differs else f"≈1 {interval}"


def metric_text(metric: Metric) -> str:
    """Return a metric with half its interval."""
    digits = digits_of(metric.name)
    return f"{metric.value:.{digits}f} ±{(metric.ci95[1] - metric.ci95[0]) / 2:.{digits}f}"


def difference_text(difference: Difference | None, name: str) -> str:
    """Return a difference with its sign, marked where the test shows none."""
    if difference is None:
        return "–"
    return f"{difference.value:+.{digits_of(name)}f}{'' if difference.differs else ' n.s.'}"


def _accuracy_cells(accuracy: Accuracy | None) -> list[str]:
    if accuracy is None:
        return ["–", "–", "–"]
    name = accuracy.metric.name
    agreement = accuracy.agreement_with_first
    agree = f"{agreement:.1f}%" if in_percent(name) else f"r {agreement:.3f}"
    return [metric_text(accuracy.metric), difference_text(accuracy.difference_with_first, name), agree]


def digits_of(metric: str) -> int:
    """Percent have one decimal, correlations three."""
    return 1 if in_percent(metric) else 3


def widths(table: Table) -> Sequence[int]:
    """Return each column's width in characters."""
    return [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
