"""Pruning heads and neurons from start to end: score, spread the budget, cut, solve anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from compress.architectures import Attention, blocks
from compress.calibration.examples import example_losses
from compress.calibration.statistics import LinearStatistics, measure
from compress.calibration.targets import record_targets
from compress.errors import InputError
from compress.layers.dense import as_linear
from compress.pruning import criteria
from compress.pruning.elimination import Elimination, by_score, surgeon
from compress.pruning.parts import Part, attentions_of, feed_forwards_of, unit_parameters, unit_width
from compress.pruning.prune import cut, reconstruct_outputs
from compress.pruning.search import Cost, across_parts, within_parts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.calibration.examples import Calibration
    from compress.pruning.latency import LatencyTable

Criterion = Literal["obs", "fisher", "taylor", "activation", "magnitude", "random"]
_PLACE = "prune"


@dataclass(frozen=True)
class Budget:
    """How much goes; one of the first three, or heads and ffn, or milliseconds.

    Attributes:
        sparsity, flops: share of the weights or operations of all heads and neurons.
        heads, ffn: share of all heads, share of all neurons.
        scope: `local` takes the share from every part.
        sequence_length: tokens a text, for the operations of attention itself.
        latency, milliseconds: what the model may take by this table.
    """

    sparsity: float = 0
    flops: float = 0
    heads: float = 0
    ffn: float = 0
    scope: Literal["global", "local"] = "global"
    sequence_length: int = 128
    latency: LatencyTable | None = None
    milliseconds: float = 0


def prune_units(
    artifact: Artifact,
    examples: Calibration | None,
    criterion: Criterion,
    budget: Budget,
    steps: int = 1,
    rebuild: bool = True,
    seed: int = 0,
) -> None:
    """Remove heads and neurons of a model in place, to meet a budget.

    Time and memory are linear in layers: one measuring pass, one recording and one solving pass a step.

    Args:
        artifact: its model is changed.
        examples: needed by the criteria that look at data and for `rebuild`.
        criterion: see `compress.pruning.criteria` and `compress.pruning.elimination`.
        budget: how much goes.
        steps: how often to score and cut; each leaves the same share of what the one before left.
        rebuild: solve what stays anew, where there are examples.
        seed: of the `random` criterion.

    Raises:
        InputError: the budget leaves a part less than its floor.
    """
    model = artifact.model
    names = [part.output for part in _parts(model)]
    targets = record_targets(model, examples.whole, names) if rebuild and examples is not None else {}
    goals = {kind: _goal(model, budget, kind) for kind in _kinds(budget)}
    whole = {kind: _costs(model, budget, kind) for kind in goals}
    for step in range(1, steps + 1):
        statistics: dict[str, LinearStatistics] = {}
        for kind, (start, goal) in goals.items():
            parts = _parts(model, kind)
            if criterion == "obs":
                assert examples is not None
                statistics |= measure(model, examples.inputs, [part.output for part in parts])
            cost = _cost(model, budget, kind)
            orders = _eliminations(artifact, parts, cost, criterion, examples, statistics, seed)
            left = (goal / start) ** (step / steps)
            if budget.scope == "local":
                kept = within_parts(parts, orders, cost, whole[kind], left, _PLACE)
            else:
                kept = across_parts(parts, orders, cost, start * left, _PLACE)
            cut(model, parts, kept, statistics if rebuild else {})
        if examples is not None and targets:
            reconstruct_outputs(model, examples.whole, targets, statistics)


def _kinds(budget: Budget) -> tuple[str, ...]:
    """Return the kinds of part that are cut: all together, or heads and neurons apart."""
    if budget.heads or budget.ffn:
        return tuple(kind for kind in ("heads", "ffn") if getattr(budget, kind))
    return ("all",)


def _parts(model: PreTrainedModel, kind: str = "all") -> list[Part]:
    heads = attentions_of(model) if kind != "ffn" else []
    neurons = feed_forwards_of(model) if kind != "heads" else []
    if not heads and not neurons:
        found = [
            part
            for block in blocks(model)
            for part in (block.feed_forwards if kind == "ffn" else block.attentions)
        ]
        reason = next((f": {part.obstacle}" for part in found if part.obstacle), "")
        raise InputError(
            f"no {'neurons' if kind == 'ffn' else 'heads'} were found that can be removed{reason}",
            place=f"{_PLACE}: {model.config.model_type}",
            remedy="`compress inspect` says what was found and why it has to stay.",
        )
    return [*heads, *neurons]


def _cost(model: PreTrainedModel, budget: Budget, kind: str) -> Cost:
    """Return what a part costs by its units: milliseconds, operations a token, weights, or plain units."""
    if budget.latency is not None:
        return budget.latency.costs(model)
    unit = {part.output: unit_parameters(model, part) for part in _parts(model, kind)}
    if kind != "all":
        return lambda part, units: float(units)
    if budget.flops:
        # Besides the linear layers, a token's query meets every key and its weights every value.
        return lambda part, units: (
            units
            * (
                2 * unit[part.output]
                + (4 * budget.sequence_length * part.unit_width if isinstance(part, Attention) else 0)
            )
        )
    return lambda part, units: units * unit[part.output]


def _costs(model: PreTrainedModel, budget: Budget, kind: str) -> dict[str, float]:
    """Return what each part costs as it is, by its output."""
    cost = _cost(model, budget, kind)
    return {part.output: cost(part, part.units) for part in _parts(model, kind)}


def _goal(model: PreTrainedModel, budget: Budget, kind: str) -> tuple[float, float]:
    """Return what the parts cost at the start and what they may cost in the end."""
    start = sum(_costs(model, budget, kind).values())
    if budget.latency is None:
        share = getattr(budget, kind) if kind != "all" else budget.sparsity or budget.flops
        return start, start * (1 - share)
    fixed = budget.latency.total(model) - start
    if budget.milliseconds <= fixed:
        raise InputError(
            f"the speed-up cannot be met: what pruning cannot touch takes {fixed:.3g} ms of the "
            f"{budget.milliseconds:.3g} ms allowed",
            place=_PLACE,
            remedy=f"At most {(start + fixed) / fixed:.2f} times is to be had by pruning heads and neurons alone.",
        )
    return start, budget.milliseconds - fixed


def _eliminations(
    artifact: Artifact,
    parts: Sequence[Part],
    cost: Cost,
    criterion: Criterion,
    examples: Calibration | None,
    statistics: Mapping[str, LinearStatistics],
    seed: int,
) -> list[Elimination]:
    model = artifact.model
    if criterion == "obs":
        if unseen := [part.output for part in parts if part.output not in statistics]:
            raise InputError(
                "no calibration example reaches this part",
                place=f"{_PLACE}: {unseen[0]}",
                remedy="Give criterion: magnitude, which looks at weights alone.",
            )
        return [
            surgeon(
                as_linear(model.get_submodule(part.output)).weight.detach(),
                statistics[part.output].gram,
                statistics[part.output].sensitivity,
                unit_width(part),
            )
            for part in parts
        ]
    if criterion == "magnitude":
        scores = criteria.magnitude(model, parts)
    elif criterion == "random":
        scores = criteria.random(parts, seed)
    else:
        assert examples is not None
        if criterion == "activation":
            scores = criteria.activation(model, parts, examples.batches)
        else:
            score = criteria.fisher if criterion == "fisher" else criteria.taylor
            scores = score(model, parts, examples.batches, example_losses(artifact.task))
    if criterion in ("fisher", "taylor"):
        return [by_score(score) for score in scores]
    # The others compare units of one part. Weighed by what a unit costs, a share of any part is worth as much.
    return [
        by_score(score * cost(part, part.units) / part.units)
        for part, score in zip(parts, scores, strict=True)
    ]
