"""The report's plots as SVG that takes its colours from the page, so that light and dark both fit."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.benchmark.report import Accuracy, Report, Row
from compress.benchmark.steps import Effect, effects
from compress.benchmark.tables import difference_text, entry_rows, number, shape_name, speedup_text
from compress.tasks import in_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in a colour that stands for a variable of the page's style, and replaced by it afterwards.
_INK, _MUTED, _GRID, _SURFACE = "#010101", "#020202", "#030303", "#040404"
_RUNTIMES = {
    "torch": "#050505",
    "onnxruntime": "#060606",
    "openvino": "#070707",
    "openvino-bf16": "#080808",
}
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _GRID: "--grid",
    _SURFACE: "--surface",
    **{colour: f"--{runtime}" for runtime, colour in _RUNTIMES.items()},
}
_NOTE: Any = {"textcoords": "offset points", "fontsize": 9}
_MARKERS = {"torch": "o", "onnxruntime": "s", "openvino": "^", "openvino-bf16": "D"}


@dataclass(frozen=True)
class Plot:
    """A plot for the page: its title, a line on how to read it, and the drawing."""

    title: str
    caption: str
    svg: str


def plots(report: Report) -> list[Plot]:
    """Draw what the report has numbers for: two scatters where there is accuracy, bars always."""
    rows = [rows[0] for rows in entry_rows(report)]
    if not rows:
        return []
    shape = shape_name(rows[0])
    rows = [row for row in rows if shape_name(row) == shape]
    drawn = []
    if any(row.metric for row in rows):
        times = [row.latency_ms.p50 for row in rows]
        caption = "Up and left is better. Bars: 95% interval of the metric. Line: Pareto front of the values."
        drawn += [
            Plot(f"Accuracy and latency at {shape}", caption, _scatter(report, rows, times, "median ms")),
            Plot("Accuracy and size", caption, _scatter(report, rows, [r.size_mb for r in rows], "MB")),
        ]
    speedups = ["" if row is rows[0] else speedup_text(row.speedup_vs_first) for row in rows]
    smaller = ["" if row is rows[0] else f"{row.smaller_vs_first:.2f}× smaller" for row in rows]
    bars = _bars(rows, [row.latency_ms.p50 for row in rows], "ms", speedups)
    caption = "Median; speedup against the first with its 95% interval."
    drawn.append(Plot(f"Latency at {shape}", caption, bars))
    sizes = _bars(rows, [row.size_mb for row in rows], "MB", smaller)
    drawn.append(Plot("Size", "The files that the runtime needs: weights, config, tokenizer.", sizes))
    changed = effects(report)
    if changed:
        caption = "From the time before to that after, the thin line; then the metric. n.s.: none is shown."
        drawn.append(Plot(f"What each pass bought and cost at {shape}", caption, _waterfall(changed, report)))
    sure = [scored for scored in report.accuracy if scored.quality and scored.quality.calibration]
    if sure:
        caption = (
            "How often answers are right of which a model is so sure; on the line, as often as it thinks."
        )
        drawing = _reliability(sure[:1] + sure[1:][-1:])
        drawn.append(Plot("Calibration of the first and the last", caption, drawing))
    return drawn


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of (cost, value) points that no other dominates, the cheapest first."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def _scatter(report: Report, rows: Sequence[Row], costs: Sequence[float], label: str) -> str:
    points = [(row, cost, row.metric) for row, cost in zip(rows, costs, strict=True) if row.metric]
    figure, axes = _figure(height=4.2)
    axes.set_xscale("log")
    front = [points[i] for i in pareto_front([(cost, metric.value) for _, cost, metric in points])]
    heights = [metric.value for _, _, metric in front]
    axes.step([cost for _, cost, _ in front], heights, where="post", color=_MUTED, linewidth=1, dashes=(4, 3))
    for row, cost, metric in points:
        colour, (low, high) = _RUNTIMES[row.runtime], metric.ci95
        axes.plot([cost, cost], [low, high], color=colour, linewidth=1, alpha=0.55)
        marker = _MARKERS[row.runtime]
        axes.plot(cost, metric.value, marker, color=colour, markersize=8, markeredgecolor=_SURFACE)
    for runtime in dict.fromkeys(row.runtime for row in rows):
        axes.plot([], [], _MARKERS[runtime], color=_RUNTIMES[runtime], markersize=7, label=runtime)
    axes.margins(x=0.16, y=0.1)
    axes.set_xlabel(label)
    unit = ", %" if in_percent(points[0][2].name) else ""
    axes.set_ylabel(points[0][2].name + unit)
    _round_ticks(axes)
    axes.grid(color=_GRID, linewidth=0.8)
    _legend(axes)
    _label_points(figure, axes, [(row.name, cost, metric.value) for row, cost, metric in points])
    return _svg(figure)


def _reliability(entries: Sequence[Accuracy]) -> str:
    """Draw accuracy against confidence; a dot's area is the share of examples in its bin."""
    figure, axes = _figure(height=4.2)
    lowest = min(100 * b.confidence for e in entries for b in (e.quality.calibration if e.quality else ()))
    axes.plot([lowest, 100], [lowest, 100], color=_MUTED, linewidth=1, dashes=(4, 3))
    for scored in entries:
        bins = scored.quality.calibration if scored.quality else ()
        confidence, right = [100 * b.confidence for b in bins], [100 * b.accuracy for b in bins]
        colour = _MUTED if scored is entries[0] and len(entries) > 1 else _RUNTIMES[scored.runtime]
        axes.plot(confidence, right, color=colour, linewidth=1.2, label=f"{scored.name} · {scored.runtime}")
        areas = [10 + 400 * b.examples / scored.examples for b in bins]
        axes.scatter(confidence, right, areas, color=colour, edgecolors=_SURFACE, zorder=3)
    axes.set_ylim(0, 104)
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("right, %")
    axes.grid(color=_GRID, linewidth=0.8)
    _legend(axes)
    return _svg(figure)


def _bars(rows: Sequence[Row], values: Sequence[float], unit: str, remarks: Sequence[str]) -> str:
    figure, axes = _figure(height=0.7 + 0.34 * len(rows))
    axes.barh(range(len(rows)), values, height=0.62, color=[_RUNTIMES[row.runtime] for row in rows])
    names = [f"{row.name} · {row.runtime}" for row in rows]
    axes.set_yticks(range(len(rows)), names, color=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.5 * max(values))
    axes.set_xticks([])
    axes.spines[["bottom"]].set_visible(False)
    for index, (value, remark) in enumerate(zip(values, remarks, strict=True)):
        text = f"{number(value)} {unit}" + (f"  ·  {remark}" if remark else "")
        axes.annotate(text, (value, index), (5, 0), va="center", color=_MUTED, **_NOTE)
    return _svg(figure)


def _waterfall(found: Sequence[Effect], report: Report) -> str:
    """Draw each pass as a bar between two times, the time it saves from right to left."""
    metric = report.accuracy[0].metric.name if report.accuracy else ""
    figure, axes = _figure(height=1.0 + 0.44 * len(found))
    axes.set_xscale("log")
    slowest = max(max(each.before.latency_ms.p50, each.after.latency_ms.p50) for each in found)
    for index, each in enumerate(found):
        before, after = each.before.latency_ms.p50, each.after.latency_ms.p50
        low, high = sorted((before, after))
        colour = _RUNTIMES[each.after.runtime]
        axes.barh(index, high - low, left=low, height=0.5, color=colour, alpha=1 if after <= before else 0.45)
        axes.plot([after, after], [index - 0.3, index + 0.3], color=_INK, linewidth=1.6)
        told = [f"{after / before:.2f}× ms", f"{each.after.size_mb / each.before.size_mb:.2f}× MB"]
        if each.change is not None:
            told.append(difference_text(each.change, metric))
        axes.annotate("  ·  ".join(told), (slowest, index), (8, 0), va="center", color=_MUTED, **_NOTE)
    axes.set_yticks(range(len(found)), [f"{each.passes} · {each.runtime}" for each in found], color=_INK)
    axes.invert_yaxis()
    fastest = min(min(each.before.latency_ms.p50, each.after.latency_ms.p50) for each in found)
    axes.set_xlim(fastest / 1.3, slowest * (slowest / fastest) ** 1.4)  # room for the words
    axes.set_xlabel("median ms")
    _round_ticks(axes)
    axes.set_xticks([tick for tick in axes.get_xticks() if fastest / 1.3 <= tick <= 1.2 * slowest])
    return _svg(figure)


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines[["bottom"]].set_color(_GRID)
    axes.tick_params(which="both", length=0, labelcolor=_MUTED, labelsize=9)
    for name in (axes.xaxis.label, axes.yaxis.label):
        name.set_color(_MUTED)
    return figure, axes


def _legend(axes: Axes) -> None:
    """Write what the colours stand for above the axes, where it covers nothing."""
    across = len(axes.get_legend_handles_labels()[1])
    axes.legend(
        frameon=False, labelcolor=_MUTED, loc="lower right", bbox_to_anchor=(1, 1), ncols=across, fontsize=9
    )


def _round_ticks(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label_points(figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names beside points, each on the first side where it covers no other name or point.

    Two points of one model that are close to each other share a name.
    """
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # lays the axes out, so that places on the page are known
    pixels = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    frame = axes.get_window_extent()
    places = [(6, 10), (-6, 10), (6, -11), (-6, -11), (9, 0), (-9, 0), (0, 22), (0, -23)]
    named: dict[str, Any] = {}
    for (name, x, y), pixel, own in zip(points, pixels, list(taken), strict=True):
        if name in named and abs(pixel - named[name]).max() < 40:
            continue
        for dx, dy in places:
            side = "left" if dx > 0 else "right" if dx < 0 else "center"
            label = axes.annotate(name, (x, y), (dx, dy), ha=side, va="center", color=_INK, **_NOTE)
            box = label.get_window_extent().padded(2)  # names do not touch
            others = [other for other in taken if other is not own]
            if frame.x0 <= box.x0 and box.x1 <= frame.x1 and not any(box.overlaps(other) for other in others):
                break
            label.remove()
        else:
            continue  # crowded out; the table names it
        taken.append(box)
        named[name] = pixel


def _svg(figure: Figure) -> str:
    """Render as an inline element: page colours, real text, no ids that another plot would repeat."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "compress"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', text, count=1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
