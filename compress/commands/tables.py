"""Tables for people, on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from compress.assets import AssetRow
    from compress.inspection import Inspection


def print_assets(rows: Sequence[AssetRow]) -> None:
    """Print the packaged models and data."""
    table = Table("name", "kind", "count", "download", "here", "what it is", box=None, pad_edge=False)
    for row in rows:
        unit = "parameters" if row.kind == "model" else "rows"
        here = f"{row.cached_bytes / 1e6:.0f} MB" if row.cached else "no"
        size = f"{row.download_bytes / 1e6:.0f} MB"
        table.add_row(
            row.name, row.kind, f"{row.count:,} {unit}", size, here, f"{row.description} ({row.licence})"
        )
    Console().print(table)


def print_inspection(found: Inspection) -> None:
    """Print a model's parts, changed modules and history."""
    console = Console(highlight=False)
    what = (
        f"{found.task.kind}, labels {', '.join(found.task.labels) or 'numbers'}"
        if found.task
        else "no trained head"
    )
    console.print(f"{found.folder}\n{found.family}, {found.layers} layers, {what}")
    parts = Table("part", "parameters", "MB", box=None, pad_edge=False)
    for name, part in found.parts.items():
        parts.add_row(name, f"{part.parameters:,}", f"{part.bytes / 1e6:.2f}")
    parts.add_row("total", f"{found.parameters:,}", f"{found.bytes / 1e6:.2f}", style="bold")
    console.print(parts)
    if found.prunable:
        console.print()
        units = Table("layers' parts", "kind", "units, layer by layer", "width", box=None, pad_edge=False)
        for kind in found.prunable:
            counts = " ".join(map(str, kind.units))
            units.add_row(kind.name, kind.kind, counts, str(kind.width))
        console.print(units)
        for kind in found.prunable:
            for layer, why in kind.obstacles.items():
                console.print(f"  {kind.name} {layer}: {kind.kind} stays: {why}", markup=False)
    if found.structure:
        console.print(f"\n{len(found.structure)} modules differ from the config:")
        changed = Table(Column("module", overflow="fold"), "is now", box=None, pad_edge=False)
        for name, entry in found.structure.items():
            sizes = " ".join(f"{key} {value}" for key, value in entry.items() if key != "type")
            changed.add_row(name, f"{entry['type']} {sizes}")
        console.print(changed)
    for record in found.history:
        score = ", ".join(f"{name} {value:.4g}" for name, value in record.after.items())
        console.print(
            f"\n{record.name} ({record.seconds:.0f} s, seed {record.seed}): dev {score or 'not scored'}"
        )
        for note in record.notes:
            console.print(f"  {note}", markup=False)
