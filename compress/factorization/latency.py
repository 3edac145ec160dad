"""What a model's linear layers cost in time on this machine, whole and by the rank they are split at.

The time of a matrix is taken for its weights times a rate. A pair's rate depends on its share of the whole matrix's
weights alone, whatever the matrix's shape and wherever it stands: it was so within 3% of a model's time for a
MiniLM-L6 with this or that kind of layer split, at 128 tokens. The rates are those at which the times of a few
variants of the model, all of whose layers are split alike, add up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from compress.architectures.blocks import blocks
from compress.factorization.linears import Size, linears_of
from compress.factorization.ranks import uniform_rank
from compress.latency.cache import cached
from compress.latency.timing import time_models, timed_copy, two_layers
from compress.layers import LowRankLinear
from compress.layers.dense import as_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact

_SHARES = (1 / 16, 1 / 2, 1)  # of a matrix's weights, at which all pairs of a variant are timed
_BOUNDS = (0, 1 / 2, 1)  # between which a pair's time is linear
_MILLION = 1e6

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class LinearLatency:
    """Milliseconds for a million weights of a matrix, whole or as a pair, and of all the rest.

    Attributes:
        pair: (share, milliseconds), both ascending: a pair that holds this share of a matrix's weights takes so
            long for each million weights of the whole matrix; between the points linear.
        whole: milliseconds of a matrix that is not split, beyond what a layer of pairs of rank 0 would take.
        rest: milliseconds of all else.
    """

    pair: Points
    whole: float
    rest: float

    def __post_init__(self) -> None:
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(self.pair))
        if not (self.pair and rising and self.pair[0][1] >= 0 and self.whole >= 0 and self.rest >= 0):
            raise ValueError("a latency table's shares must rise, and its times must not fall or be negative")

    def cost(self, size: Size) -> float:
        """Return the milliseconds of a layer."""
        if size.rank is None:
            return self.whole * size.dense_weights / _MILLION
        shares, times = zip(*self.pair, strict=True)
        return float(np.interp(size.share, shares, times)) * size.dense_weights / _MILLION

    def total(self, model: PreTrainedModel) -> float:
        """Return the milliseconds of a whole model as it is now."""
        return self.rest + sum(map(self.cost, sizes_of(model)))


def sizes_of(model: PreTrainedModel) -> list[Size]:
    """Return the sizes of the linear layers that factorization splits."""
    return [Size.of(model.get_submodule(name)) for name in linears_of(model)]


def measure_latency(
    artifact: Artifact, batch_size: int, sequence_length: int, threads: int = 1
) -> LinearLatency:
    """Time a model's layers as float32 ONNX in ONNX Runtime, on this machine's processor, as a bench does.

    The first time takes a minute or more; a cached table is used as long as model sizes, shape, threads,
    processor and ONNX Runtime are the same.

    Args:
        artifact: its model is not changed. The weights' values do not matter.
        batch_size: examples in one call.
        sequence_length: tokens in each example, all of them full.
        threads: of ONNX Runtime.

    Raises:
        InputError: the model cannot be exported, or has not so many positions.
    """

    def measure() -> LinearLatency:
        facts, times = time_models(
            artifact,
            variants(artifact.model),
            lambda model: (len(blocks(model)), sizes_of(model)),
            (batch_size, sequence_length),
            threads,
            "Give keep, the share of weights, in place of a speedup.",
        )
        return fit(facts, times)

    return cached(LinearLatency, artifact.model, (batch_size, sequence_length, threads), measure)


def variants(model: PreTrainedModel) -> list[Callable[[], PreTrainedModel]]:
    """Return makers of the models to time: whole as it is, whole split in half, two layers as is and split.

    Where layers cannot be dropped, or share their weights, all have all layers.
    """
    whole = timed_copy(model)
    cut = two_layers(whole)
    if cut is None:
        return [partial(_split, whole, share) for share in (None, *_SHARES)]
    # Two layers find the caches emptier than all do, so that both are timed.
    return [
        *(partial(_split, whole, share) for share in (None, _SHARES[1])),
        *(partial(_split, cut, share) for share in (None, *_SHARES)),
    ]


def _split(model: PreTrainedModel, share: float | None) -> PreTrainedModel:
    """Return a copy, all of its layers pairs that hold a share of the weights, of whatever values."""
    model = copy.deepcopy(model)
    if share is not None:
        for name in linears_of(model):
            whole = as_linear(model.get_submodule(name), name)
            rank = uniform_rank(whole.in_features, whole.out_features, share)
            pair = LowRankLinear(whole.in_features, whole.out_features, rank, whole.bias is not None)
            model.set_submodule(name, pair.train(whole.training))
    return model


def fit(facts: Sequence[tuple[int, Sequence[Size]]], milliseconds: Sequence[float]) -> LinearLatency:
    """Find the rates, none negative, that add up to the times with the least relative error.

    A time is rest + layers * base + the layers' weights times their rates. The rate of a pair is 0 at share 0:
    what pairs take whatever their rank cannot be told from the base. Where all variants have as many layers, the
    base cannot be told from the rest.

    Args:
        facts: of each variant, the model itself first: layers, and the sizes of what can be split.
        milliseconds: of each variant.
    """
    from scipy.optimize import nnls

    matrix = np.asarray([[1.0, float(layers), *_filled(sizes)] for layers, sizes in facts])
    layers = facts[0][0]
    if len({count for count, _ in facts}) == 1:
        matrix[:, 1] = 0
    times = np.asarray(milliseconds)
    (rest, base, whole, *steps), _ = nnls(matrix / times[:, None], np.ones(len(times)))
    rates = np.cumsum([0.0, *steps])
    pair = tuple((share, float(rate)) for share, rate in zip(_BOUNDS, rates, strict=True))
    return LinearLatency(pair, float(whole), float(rest + layers * base))


def _filled(sizes: Sequence[Size]) -> list[float]:
    """Return millions of weights that are whole, and for each stretch between bounds those that fill it."""
    whole = sum(size.dense_weights for size in sizes if size.rank is None)
    pairs = [size for size in sizes if size.rank is not None]
    filled = [
        sum(min(max((size.share - low) / (high - low), 0), 1) * size.dense_weights for size in pairs)
        for low, high in pairwise(_BOUNDS)
    ]
    return [whole / _MILLION, *(weights / _MILLION for weights in filled)]
