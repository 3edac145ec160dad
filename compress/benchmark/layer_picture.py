"""What is left of each layer, as a picture made of a table: colour is what a part holds beside the largest one."""

from __future__ import annotations

from html import escape

from compress.benchmark.report import Layer, Model, Report

STYLE = """
.layers td, .layers th { text-align: center; line-height: 1.25; min-width: 64px; }
.layers .text { text-align: left; }
.layers small { display: block; opacity: 0.75; }
"""
READING = (
    "Each cell is a layer's attention or feed-forward: heads (of keys and values) or neurons, and below them its "
    "weights and their bits. Colour: bytes, beside those of the largest cell in the picture."
)


def layer_picture(report: Report) -> str:
    """Return the picture as HTML; empty where no model's layers are known."""
    models = [model for model in report.models if model.layers]
    largest = max((_bytes(layer) for m in models for parts in m.layers for layer in parts), default=0)
    if not largest:
        return ""
    count = max(len(model.layers) for model in models)
    numbers = "".join(f"<th>{number}</th>" for number in range(count))
    head = f'<thead><tr><th class="text">model</th><th class="text">part</th>{numbers}</tr></thead>'
    body = "".join(_lines(model, count, largest) for model in models)
    return f'<div class="scroll"><table class="layers">{head}<tbody>{body}</tbody></table></div>'


def _lines(model: Model, count: int, largest: float) -> str:
    lines = []
    for kind in ("attention", "feed-forward"):
        found = [next((part for part in parts if part.kind == kind), None) for parts in model.layers]
        if not any(found):
            continue
        cells = "".join(_cell(layer, largest) for layer in [*found, *[None] * (count - len(found))])
        lines.append(
            f'<tr><td class="text">{escape(model.name)}</td><td class="text">{kind}</td>{cells}</tr>'
        )
    return "".join(lines)


def _cell(layer: Layer | None, largest: float) -> str:
    if layer is None:
        return "<td></td>"
    share = round(100 * _bytes(layer) / largest)
    size = f"{layer.parameters / 1e6:.2f} M" if layer.parameters >= 1e5 else f"{layer.parameters / 1e3:.0f} k"
    colour = f"color-mix(in srgb, var(--torch) {max(3, round(0.6 * share))}%, transparent)"
    units = "" if layer.units is None else f"{layer.units:,}"
    return f'<td style="background: {colour}">{units}<small>{size} · {layer.bits:.0f} bit</small></td>'


def _bytes(layer: Layer) -> float:
    return layer.parameters * layer.bits / 8
