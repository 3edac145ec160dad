"""What a model's linear layers cost in time on this machine, whole and by the rank they are split at.

The time of a layer is taken for its weights times a rate, one rate for whole matrices, others for pairs, whatever
the shape and wherever it stands: so it was within 3% of the model's time for a MiniLM-L6 with this or that kind of
layer split, at 128 tokens. The rates are those at which the times of a few variants of the model, all of whose layers
are split alike, add up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress.architectures.blocks import blocks
from compress.factorization.linears import Size, linears_of
from compress.factorization.ranks import uniform_rank
from compress.latency.cache import cached
from compress.latency.one_token import SHARES, one_token_linears, reads_one_token
from compress.latency.timing import time_models, timed_copy, two_layers
from compress.layers import LowRankLinear
from compress.layers.dense import as_linear

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from compress.artifact import Artifact

_SHARES = (1 / 16, 1 / 2, 1)  # of a matrix's weights, at which all pairs of a variant are timed


@dataclass(frozen=True)
class LinearLatency:
    """Milliseconds for a million weights of a layer, by how they are held, and of all the rest.

    Attributes:
        whole: of a matrix that is not split. What a pair takes at any rank is counted with the rest, for whole
            matrices too, and is taken off here.
        lower: of a pair, for as many as half of what the whole matrix has.
        upper: of a pair, for those beyond half.
        rest: milliseconds of all else.
        last: what a layer takes that is computed for one token, as a share of all tokens' time.
    """

    whole: float
    lower: float
    upper: float
    rest: float
    last: float = 1.0

    def __post_init__(self) -> None:
        if min(self.whole, self.lower, self.upper, self.rest) < 0:
            raise ValueError("a latency table's times must not be negative")

    def cost(self, size: Size) -> float:
        """Return the milliseconds of a layer."""
        whole, lower, upper = _millions(size)
        time = self.whole * whole + self.lower * lower + self.upper * upper
        return time * self.last if size.one_token else time

    def total(self, model: PreTrainedModel) -> float:
        """Return the milliseconds of a whole model as it is now."""
        return self.rest + sum(map(self.cost, sizes_of(model)))


def sizes_of(model: PreTrainedModel) -> list[Size]:
    """Return the sizes of the linear layers that factorization splits."""
    once = one_token_linears(model)
    return [Size.of(model.get_submodule(name), name in once) for name in linears_of(model)]


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
        with torch.random.fork_rng():  # what comes after is to be the same with a cached table
            facts, times = time_models(
                artifact,
                variants(artifact.model),
                lambda model: (len(blocks(model)), sizes_of(model)),
                (batch_size, sequence_length),
                threads,
                "Give keep, the share of weights, in place of a speedup.",
            )
        return fit(facts, times, reads_one_token(artifact))

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


def fit(
    facts: Sequence[tuple[int, Sequence[Size]]], milliseconds: Sequence[float], one_token: bool = False
) -> LinearLatency:
    """Find the rates, none negative, that add up to the times with the least relative error.

    A time is rest + layers * base + weights * their rates. What pairs take at any rank cannot be told from the
    base, nor the base from the rest where all variants have as many layers.

    Args:
        facts: of each variant, the model itself first: layers, and the sizes of what can be split.
        milliseconds: of each variant.
        one_token: whether the last layer is computed for one token; what share of its time that takes is the one
            of `SHARES` that fits best.
    """
    from scipy.optimize import nnls

    layers = np.asarray([float(count) for count, _ in facts])
    times = np.asarray(milliseconds)
    apart = layers if len(set(layers)) > 1 else np.zeros_like(layers)

    def solve(share: float) -> tuple[NDArray[np.float64], float]:
        weights = [
            np.sum([np.multiply(share if size.one_token else 1.0, _millions(size)) for size in sizes], axis=0)
            for _, sizes in facts
        ]
        matrix = np.column_stack([weights, np.ones_like(times), apart])
        solution, error = nnls(matrix / times[:, None], np.ones(len(times)))
        return solution, round(float(error), 6)

    last = min(SHARES if one_token else SHARES[:1], key=lambda share: solve(share)[1])
    whole, lower, upper, rest, base = (float(rate) for rate in solve(last)[0])
    return LinearLatency(whole, lower, upper, rest + float(layers[0]) * base, last)


def _millions(size: Size) -> tuple[float, float, float]:
    """Return millions of weights: of a whole matrix, of a pair up to half as many as the matrix has, beyond."""
    if size.rank is None:
        return size.weights / 1e6, 0.0, 0.0
    lower = min(size.weights, size.dense_weights / 2)
    return 0.0, lower / 1e6, (size.weights - lower) / 1e6
