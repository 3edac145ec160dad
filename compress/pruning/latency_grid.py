"""Timing a model's layers at a few sizes, and the costs of parts that explain the times.

A handful of variants of the model (its two widest layers at a small grid of head counts and feed-forward widths;
all layers, whole and halved) are exported and timed in turns, in the ONNX Runtime session of a bench. The
time of a variant is taken for a sum of what its parts cost. That a layer costs the same wherever it stands,
whatever the others have, is what makes the table small; runtimes that run one operator after the other behave
so but for the caches, which two layers find emptier than all: hence the halved one. The last layer of a model
that answers from one token is another matter, see `compress.latency.one_token`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from compress.architectures.blocks import Attention, FeedForward, blocks
from compress.latency.one_token import SHARES, reads_one_token
from compress.latency.timing import time_models, timed_copy, two_layers
from compress.pruning.surgery import keep_heads, keep_neurons

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from compress.artifact import Artifact

_HEADS = (0, 1 / 2, 1)  # shares of the largest layer's; one head at least
_NEURONS = (1 / 16, 1 / 2, 1)
_MULTIPLE = 8  # of neurons, as what is left after pruning has

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Sizes:
    """Units of every attention and of every feed-forward part of a model."""

    attention: tuple[int, ...]
    feed_forward: tuple[int, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Sizes:
        """Read a model's sizes."""
        layers = blocks(model)
        return cls(
            tuple(part.units for layer in layers for part in layer.attentions),
            tuple(part.units for layer in layers for part in layer.feed_forwards),
        )


def measure(
    artifact: Artifact, batch_size: int, sequence_length: int, threads: int
) -> tuple[Points, Points, float, float]:
    """Return the fields of a `LatencyTable`; see `measure_latency` for arguments and errors."""
    levels = grid(artifact.model)
    sizes, times = time_models(
        artifact,
        variants(artifact.model, levels),
        Sizes.of,
        (batch_size, sequence_length),
        threads,
        "Give the shares of heads and neurons to remove in place of a speedup.",
    )
    return fit(sizes, times, levels, reads_one_token(artifact))


def grid(model: PreTrainedModel) -> Sizes:
    """Return which head counts and feed-forward widths are timed, each ascending up to the largest present."""
    layers = blocks(model)
    heads = [part for layer in layers for part in layer.attentions]
    neurons = [part for layer in layers for part in layer.feed_forwards]
    return Sizes(_levels(heads, _HEADS, 1), _levels(neurons, _NEURONS, _MULTIPLE))


def _levels(
    parts: Sequence[Attention] | Sequence[FeedForward], shares: Sequence[float], multiple: int
) -> tuple[int, ...]:
    largest = max((part.units for part in parts), default=0)
    if all(part.obstacle for part in parts):
        return (largest,)
    rounded = {max(1, round(share * largest / multiple)) * multiple for share in shares}
    return tuple(sorted({level for level in rounded if level < largest} | {largest}))


def variants(model: PreTrainedModel, levels: Sizes) -> list[Callable[[], PreTrainedModel]]:
    """Return makers of the models to time: whole ones, then cut ones at each level, heads before neurons.

    Where layers cannot be dropped, or share their weights, the cut ones have all layers.
    """
    whole = timed_copy(model)
    cut = two_layers(whole)
    all_heads, all_neurons = levels.attention[-1], levels.feed_forward[-1]
    middle = (
        levels.attention[len(levels.attention) // 2],
        levels.feed_forward[len(levels.feed_forward) // 2],
    )
    deep = [] if cut is None else [(all_heads, all_neurons)]
    deep += [middle] if middle != (all_heads, all_neurons) else []
    sizes = [(heads, all_neurons) for heads in levels.attention]
    sizes += [(all_heads, neurons) for neurons in levels.feed_forward[:-1]]
    made = [partial(_shrunk, whole, *size) for size in deep]
    return [*made, *(partial(_shrunk, whole if cut is None else cut, *size) for size in sizes)]


def _shrunk(model: PreTrainedModel, heads: int, neurons: int) -> PreTrainedModel:
    """Return a copy with no more than so many units in any part that can lose some."""
    model = copy.deepcopy(model)
    for layer in blocks(model):
        for attention in layer.attentions:
            if attention.units > heads and not attention.obstacle:
                keep_heads(model, attention, range(heads))
        for feed_forward in layer.feed_forwards:
            if feed_forward.units > neurons and not feed_forward.obstacle:
                keep_neurons(model, feed_forward, range(neurons))
    return model


def fit(
    sizes: Sequence[Sizes], milliseconds: Sequence[float], levels: Sizes, one_token: bool = False
) -> tuple[Points, Points, float, float]:
    """Find the costs, none negative, that add up to the times with the least relative error.

    A part's cost is linear between levels, and the two lowest lie on a line whose value at 0 units is what an
    attention costs at least, and 0 for a feed-forward part. Where all variants have as many layers, the
    least cost cannot be told from the rest and is counted there.

    Args:
        sizes: of each variant.
        milliseconds: of each variant.
        levels: the grid.
        one_token: whether the last layer is computed for one token; what share of its time that takes is the one
            of `SHARES` that fits best.

    Returns:
        Points of attention and of feed-forward, ascending, the rest, and the last layer's share.
    """
    from scipy.optimize import nnls

    heads, neurons = _bounds(levels.attention), _bounds(levels.feed_forward)
    times = np.asarray(milliseconds)

    def solve(share: float) -> tuple[NDArray[np.float64], float]:
        matrix = np.asarray([_row(size, heads, neurons, share) for size in sizes])
        if len({len(size.attention) for size in sizes}) == 1:
            matrix[:, 1] = 0
        solution, error = nnls(matrix / times[:, None], np.ones(len(times)))
        return solution, round(float(error), 6)

    last = min(SHARES if one_token else SHARES[:1], key=lambda share: solve(share)[1])
    solution, _ = solve(last)
    rest, base, steps = solution[0], solution[1], solution[2:]
    return (
        _points(heads, base, steps[: len(heads) - 1]),
        _points(neurons, 0.0, steps[len(heads) - 1 :]),
        float(rest),
        last,
    )


def _row(size: Sizes, heads: Sequence[int], neurons: Sequence[int], share: float) -> list[float]:
    """Return what of each unknown is in a variant: the rest, attentions at their least, stretches filled."""
    attention, feed_forward = np.ones(len(size.attention)), np.ones(len(size.feed_forward))
    attention[-1:], feed_forward[-1:] = (1 + share) / 2, share
    return [
        1.0,
        float(attention.sum()),
        *_filled(size.attention, heads, attention),
        *_filled(size.feed_forward, neurons, feed_forward),
    ]


def _bounds(levels: Sequence[int]) -> list[int]:
    return [0, *levels[1:]] if len(levels) > 1 else list(levels)


def _filled(units: Sequence[int], bounds: Sequence[int], shares: NDArray[np.float64]) -> list[float]:
    """Return for each stretch between bounds how much of it the parts fill, in parts, each times its share."""
    spread = np.asarray(units, dtype=float)
    return [float(np.clip((spread - low) / (high - low), 0, 1) @ shares) for low, high in pairwise(bounds)]


def _points(bounds: Sequence[int], base: float, steps: NDArray[np.float64]) -> Points:
    costs = base + np.concatenate([[0.0], np.cumsum(steps)])
    return tuple((bound, float(cost)) for bound, cost in zip(bounds, costs, strict=True))
