"""What a result ends with, and how it is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compress.hardware import fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def machine_line() -> str:
    """Name the processor and the versions of what ran."""
    machine = fingerprint()
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flags = " ".join(machine["cpu_flags"])
    return (
        f"{machine['processor']}, {machine['cores']} cores ({flags}); Python {machine['python']}, {versions}."
    )


def write_result(text: str, out: Path) -> None:
    """Write a table to its file, and print it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that is drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_svg(figure: Figure, path: Path) -> None:
    """Write an SVG that is the same for the same drawing."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "compress"}):
        figure.savefig(path, metadata={"Date": None})
