"""What each row brings against labels alone, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.distillation.record import Record
from bench.distillation.report import grouped
from bench.distillation.rows import ROWS, SETTINGS
from bench.writing import new_figure, save_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAIN, _LOSS, _UNSHOWN = "#1f5fa8", "#b3261e", "#9a9a9a"
_ACROSS = 2


def draw(records: Sequence[Record], path: Path) -> None:
    """Write an SVG with a panel for each student of each data set: differences with their 95% intervals.

    Grey are those whose interval holds zero.

    Args:
        records: as the table has them; what was not compared with labels alone is left out.
        path: the file.
    """
    groups = [(*group, [each for each in rows if each.against_labels]) for *group, rows in grouped(records)]
    groups = [group for group in groups if group[-1]]
    if not groups:
        return
    down = -(-len(groups) // _ACROSS)
    figure = new_figure(11, 3.2 * down)
    panels = figure.subplots(down, _ACROSS, squeeze=False).flat
    for (data, student, rows), axes in zip(groups, panels, strict=False):
        _panel(axes, data, student, rows)
    for axes in list(panels)[len(groups) :]:
        axes.set_visible(False)
    save_svg(figure, path)


def _panel(axes: Axes, data: str, student: str, rows: Sequence[Record]) -> None:
    accuracy = SETTINGS[data].metric == "accuracy"
    axes.axvline(0, color="#555555", linewidth=1, linestyle=(0, (4, 3)))
    for place, record in enumerate(rows):
        assert record.against_labels is not None
        gain, low, high = record.against_labels
        colour = _GAIN if low > 0 else _LOSS if high < 0 else _UNSHOWN
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot(gain, place, marker="o", markersize=6, color=colour)
        seeds = len(record.scores)
        axes.annotate(
            f"{gain:+.2f}" if accuracy else f"{gain:+.3f}",
            (gain, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
        if seeds > 1:
            axes.annotate(
                f"{seeds} seeds",
                (1, place),
                (2, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color="#555555",
            )
    axes.set_yticks(range(len(rows)), [ROWS[record.row].name for record in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_title(f"{data}, {student}", fontsize=10, loc="left")
    axes.set_xlabel(
        f"{'points of accuracy' if accuracy else SETTINGS[data].metric} above labels alone", fontsize=8
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(color="#e3e3e3", linewidth=0.7, axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
