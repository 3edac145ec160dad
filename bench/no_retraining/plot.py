"""The tables of the suite as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.no_retraining.methods import DENSE, METHODS
from bench.no_retraining.models import MODELS
from bench.writing import new_figure, save_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {"prune": "weights of heads and FFN left", "factorize": "weights of linear layers left"}
_OURS = "#b3261e"
_OTHERS = ("#1f5fa8", "#4a8f3c", "#8a6d1d", "#6b4fa0", "#7a7a7a")


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG with a row for each model and a column for pruning and for factorization.

    Args:
        records: of `bench.no_retraining.report.record`; failed and retrained ones are left out.
        path: the file.
    """
    models = list(dict.fromkeys(record["model"] for record in records))
    figure = new_figure(9, 3.3 * len(models))
    grid = figure.subplots(len(models), len(_KINDS), squeeze=False)
    for model, row in zip(models, grid, strict=True):
        own = [record for record in records if record["model"] == model and "accuracy" in record]
        dense = next(record for record in own if record["method"] == DENSE)
        for kind, axes in zip(_KINDS, row, strict=True):
            _panel(axes, kind, dense, [record for record in own if METHODS[record["method"]].kind == kind])
        row[0].set_ylabel(f"{MODELS[model].model}, {MODELS[model].data}\naccuracy, %")
    save_svg(figure, path)


def _panel(axes: Axes, kind: str, dense: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
    axes.axhline(dense["accuracy"], color="#555555", linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("dense", (1, dense["accuracy"]), (4, 3), textcoords="offset points", fontsize=8)
    others = [name for name, method in METHODS.items() if method.kind == kind and not name.startswith("ours")]
    colours = dict(zip(others, _OTHERS, strict=False))
    for name in METHODS:
        chosen = [r for r in records if r["method"] == name and not METHODS[name].recovers]
        points = sorted(((float(r["kept"]), r) for r in chosen), key=lambda point: point[0])
        if not points:
            continue
        ours = name not in colours
        colour = colours.get(name, _OURS)
        places = [left for left, _ in points]
        heights = [record["accuracy"] for _, record in points]
        axes.plot(
            places,
            heights,
            marker="o",
            markersize=4,
            color=colour,
            linewidth=2 if ours else 1.2,
            label=METHODS[name].title.strip("*"),
            zorder=3 if ours else 2,
        )
        low, high = zip(*(record["accuracy_ci95"] for _, record in points), strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.18 if ours else 0.07, linewidth=0)
    axes.set_xlim(1.0, 0.25)
    axes.set_xlabel(_KINDS[kind])
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(color="#e3e3e3", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7.5, loc="lower left")
