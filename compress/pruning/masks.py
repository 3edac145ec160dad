"""Which heads and neurons stay, given their importance and a share to remove."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def choose(
    scores: Sequence[Tensor], ratio: float, floor: Sequence[int], multiple: int = 1
) -> list[list[int]]:
    """Remove the least important units of all layers together and return what each layer keeps.

    The scores are compared across layers as they are, so layers may end up uneven. In all
    `round(ratio * total)` units go, unless the floors leave fewer to take.

    Args:
        scores: one tensor (units,) a layer; higher is more important.
        ratio: share of all units to remove, in [0, 1).
        floor: how many units each layer keeps at least.
        multiple: bring each layer's count to a multiple of this (or to all it has), keeping the total
            within half a multiple of the budget where the floors and counts allow.

    Returns:
        For each layer the indices kept, ascending.
    """
    orders = [layer.argsort(descending=True, stable=True).tolist() for layer in scores]
    removable = [
        (float(layer[unit]), depth, unit)
        for depth, (layer, order) in enumerate(zip(scores, orders, strict=True))
        for unit in order[floor[depth] :]
    ]
    total = sum(len(layer) for layer in scores)
    counts = [len(layer) for layer in scores]
    for _, depth, _ in sorted(removable)[: round(ratio * total)]:
        counts[depth] -= 1
    if multiple > 1:
        counts = _rounded(counts, [len(layer) for layer in scores], floor, multiple)
    return [sorted(order[:count]) for order, count in zip(orders, counts, strict=True)]


def _rounded(counts: Sequence[int], widths: Sequence[int], floor: Sequence[int], multiple: int) -> list[int]:
    """Round every count down to the multiple, then up again where most was lost, until the total is met."""
    low = [
        count if count == width else min(width, max(count // multiple, -(-least // multiple)) * multiple)
        for count, width, least in zip(counts, widths, floor, strict=True)
    ]
    spare = sum(counts) - sum(low)
    for depth in sorted(range(len(low)), key=lambda depth: low[depth] - counts[depth]):
        step = min(multiple, widths[depth] - low[depth])
        if step and 2 * spare >= step:
            low[depth] += step
            spare -= step
    return low


def normalised(scores: Sequence[Tensor]) -> list[Tensor]:
    """Divide each layer's scores (units,) by their mean, for criteria whose scale differs by layer."""
    return [layer / layer.mean().clamp_min(torch.finfo(layer.dtype).tiny) for layer in scores]
