"""Factorizing a model's linear layers from start to end: measure, choose ranks, split, solve anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from compress.calibration.examples import example_losses
from compress.calibration.reconstruction import least_squares, reconstruct, set_weights
from compress.calibration.statistics import LinearStatistics, measure, weights_of_tokens
from compress.calibration.targets import record_targets
from compress.factorization.fisher import fisher_weights
from compress.factorization.linears import Size, linears_of
from compress.factorization.ranks import Matrix, spread_ranks, spread_time, uniform_rank
from compress.factorization.svd import discarded, truncate_svd
from compress.latency.one_token import one_token_linears
from compress.layers import LowRankLinear
from compress.layers.dense import as_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.calibration.examples import Calibration
    from compress.factorization.latency import LinearLatency

Method = Literal["kfac", "whitened", "fisher", "plain"]


@dataclass(frozen=True)
class Speedup:
    """A budget of time, for `kfac` alone.

    Attributes:
        latency: what the model takes by its ranks.
        factor: how many times faster it is to be.
    """

    latency: LinearLatency
    factor: float


@torch.no_grad()
def factorize_linears(
    artifact: Artifact,
    examples: Calibration | None,
    method: Method,
    budget: float | Speedup,
    rebuild: bool = True,
) -> dict[str, int | None]:
    """Replace linear layers of a model by low-rank pairs, in place.

    `kfac` spreads the budget over all layers by what each rank is worth to the answer; the other methods give
    each layer the same share. Time and memory are linear in layers.

    Args:
        artifact: its model is changed.
        examples: needed by all methods but `plain`.
        method: how a layer is split; see `compress.passes.factorize`.
        budget: share of the layers' weights that may be left, or the speed-up to reach.
        rebuild: split what least squares gives on the calibration examples for the dense model's outputs, given
            the inputs that the layers before, split already, lead to.

    Returns:
        Rank by layer; None for one that stays as it is.

    Raises:
        InputError: the budget cannot be met.
    """
    model = artifact.model
    names = linears_of(model)
    pairs = {name: m for name in names if isinstance(m := model.get_submodule(name), LowRankLinear)}
    for name in names:
        model.set_submodule(name, as_linear(model.get_submodule(name), name))
    statistics = _statistics(artifact, names, method, examples)
    ranks = _ranks(model, names, pairs, statistics, method, budget)
    solved = rebuild and examples is not None
    # A pair that stays is not solved: what comes after it is solved for the pair as it is.
    open_ = [name for name in names if ranks[name] is not None or name not in pairs]
    targets = record_targets(model, examples.whole, open_) if solved and examples is not None else {}
    for name in names:
        rank = ranks[name]
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        if rank is not None and name not in targets:
            model.set_submodule(name, split(linear, rank, statistics.get(name)))

    factors: dict[str, tuple[Tensor, Tensor]] = {}

    def solve(name: str, linear: nn.Linear, x: Tensor, wanted: Tensor) -> None:
        tokens = weights_of_tokens(statistics, name, x)
        weight, mean_x, mean_y, gram = least_squares(linear, x, wanted, tokens)
        rank = ranks[name]
        if rank is not None:
            metric = statistics[name].sensitivity if method == "kfac" else None
            seen = statistics[name].gram if method == "fisher" else gram
            factors[name] = truncate_svd(weight, rank, seen, metric)
            weight = factors[name][1] @ factors[name][0]
        set_weights(linear, weight, mean_x, mean_y)

    if examples is not None and targets:
        reconstruct(model, examples.whole, targets, solve)
    for name, (first, second) in factors.items():
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(name, pair_of(linear, first, second))
    for name, pair in pairs.items():
        if ranks[name] is None:
            model.set_submodule(name, pair)
    return ranks


@torch.no_grad()
def split(linear: nn.Linear, rank: int, statistics: LinearStatistics | None = None) -> LowRankLinear:
    """Return the best low-rank stand-in for `linear`, by itself or for the inputs that were measured.

    Where there is a bias b, the mean input μ is taken out first: with W' fitted to the covariance of the
    inputs and b' = b + (W - W') μ, the squared output error summed over the recorded inputs is the least that
    any W' of this rank with any b' can have.

    Args:
        linear: weight (out, in), bias (out,) or None.
        rank: from 1 to min(in, out).
        statistics: of `linear`; None weighs all directions alike and leaves the bias.
    """
    if statistics is None:
        return pair_of(linear, *truncate_svd(linear.weight, rank))
    gram = statistics.gram
    if linear.bias is None:
        gram = gram + torch.outer(statistics.mean, statistics.mean)
    first, second = truncate_svd(linear.weight.double(), rank, gram, statistics.sensitivity)
    pair = pair_of(linear, first, second)
    if linear.bias is not None:
        lost = linear.weight.double() - second @ first
        pair.second.bias.add_((lost @ statistics.mean).to(linear.bias.dtype))
    return pair


@torch.no_grad()
def pair_of(linear: nn.Linear, first: Tensor, second: Tensor) -> LowRankLinear:
    """Return the pair with factors first (rank, in) and second (out, rank) and the bias of `linear`."""
    pair = LowRankLinear(linear.in_features, linear.out_features, len(first), linear.bias is not None)
    pair = pair.to(linear.weight)
    pair.first.weight.copy_(first)
    pair.second.weight.copy_(second)
    if linear.bias is not None:
        pair.second.bias.copy_(linear.bias)
    return pair.train(linear.training)


def _statistics(
    artifact: Artifact, names: Sequence[str], method: Method, examples: Calibration | None
) -> dict[str, LinearStatistics]:
    if method == "plain" or examples is None:
        return {}
    if method == "fisher":
        losses = example_losses(artifact.task)
        weights = fisher_weights(artifact.model, names, examples.batches, losses)
        return {name: _by_input(artifact.model, name, weight) for name, weight in weights.items()}
    return measure(artifact.model, examples.inputs, names, gradients=method == "kfac")


def _by_input(model: PreTrainedModel, name: str, weight: Tensor) -> LinearStatistics:
    """Return statistics in which inputs matter by `weight` (in,), outputs alike, and no mean is known."""
    outputs = as_linear(model.get_submodule(name)).out_features
    eye = torch.eye(outputs, dtype=weight.dtype, device=weight.device)
    return LinearStatistics(torch.zeros_like(weight), torch.diag(weight), eye, weight.new_empty(0), calls=1)


def _ranks(
    model: PreTrainedModel,
    names: Sequence[str],
    pairs: Mapping[str, LowRankLinear],
    statistics: Mapping[str, LinearStatistics],
    method: Method,
    budget: float | Speedup,
) -> dict[str, int | None]:
    matrices: dict[str, Matrix] = {}
    unseen: list[Size] = []
    once = one_token_linears(model) if isinstance(budget, Speedup) else frozenset()
    ranks: dict[str, int | None] = {}
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        present = pairs[name].rank if name in pairs else None
        if method == "kfac":
            seen = statistics.get(name)
            if seen is None:  # no example reaches it
                ranks[name] = None
                unseen.append(Size(linear.in_features, linear.out_features, present, name in once))
                continue
            errors = discarded(linear.weight, seen.gram, seen.sensitivity)
            size = (linear.in_features, linear.out_features)
            matrices[name] = Matrix(*size, errors, present, name in once)
            continue
        assert not isinstance(budget, Speedup)
        rank = uniform_rank(linear.in_features, linear.out_features, budget)
        ranks[name] = None if present is not None and rank >= present else rank
    if not isinstance(budget, Speedup):
        return ranks | spread_ranks(matrices, budget, "factorize")
    fixed = budget.latency.rest + sum(map(budget.latency.cost, unseen))
    return ranks | spread_time(matrices, budget.latency.cost, budget.factor, fixed, "factorize")
