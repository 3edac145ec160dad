"""What a model's layers cost in time on this machine, by the heads and neurons they have left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from compress.architectures.blocks import Attention, FeedForward, blocks
from compress.latency.cache import cached
from compress.latency.one_token import last_outputs, last_share

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of one attention or one feed-forward part by the units it has left, and of all the rest.

    Between the points costs are linear, outside them constant. What a layer costs whatever is left in it stands
    with its attention.

    Attributes:
        attention: (units, milliseconds) of one attention with its projections, both ascending.
        feed_forward: the same of one feed-forward part.
        rest: milliseconds of embeddings, head and the runtime's own work, whatever the layers.
        last: what one token's work in the last layer takes, as a share of all tokens'; 1 where the answer reads
            all of them.
    """

    attention: tuple[tuple[int, float], ...]
    feed_forward: tuple[tuple[int, float], ...]
    rest: float
    last: float = 1.0

    def __post_init__(self) -> None:
        for points in (self.attention, self.feed_forward):
            rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(points))
            if not (points and rising and points[0][1] >= 0 and self.rest >= 0):
                raise ValueError(
                    "a latency table's units must rise, and its times must not fall or be negative"
                )

    def costs(self, model: PreTrainedModel) -> Callable[[Attention | FeedForward, int], float]:
        """Return the function that gives the milliseconds of a part of `blocks(model)` that has so many units."""
        last = last_outputs(model)

        def cost(part: Attention | FeedForward, units: int) -> float:
            points = self.attention if isinstance(part, Attention) else self.feed_forward
            known, times = zip(*points, strict=True)
            whole = float(np.interp(float(units), known, times))
            return whole * last_share(part, self.last) if part.output in last else whole

        return cost

    def total(self, model: PreTrainedModel) -> float:
        """Return the milliseconds of a whole model as it is now."""
        cost = self.costs(model)
        total = self.rest
        for block in blocks(model):
            total += sum(cost(part, part.units) for part in block.attentions)
            total += sum(cost(part, part.units) for part in block.feed_forwards)
        return total


def measure_latency(
    artifact: Artifact, batch_size: int, sequence_length: int, threads: int = 1
) -> LatencyTable:
    """Time a model's parts as float32 ONNX in ONNX Runtime, on this machine's processor, as a bench does.

    The first time takes about a minute; a cached table is used as long as model sizes, shape, threads,
    processor and ONNX Runtime are the same.

    Args:
        artifact: its model is not changed. The weights' values do not matter.
        batch_size: examples in one call.
        sequence_length: tokens in each example, all of them full.
        threads: of ONNX Runtime.

    Raises:
        InputError: the model cannot be exported, or has not so many positions.
    """
    from compress.pruning.latency_grid import measure

    return cached(
        LatencyTable,
        artifact.model,
        (batch_size, sequence_length, threads),
        lambda: LatencyTable(*measure(artifact, batch_size, sequence_length, threads)),
    )
