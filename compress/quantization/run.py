"""The schemes as functions of a model and of what is to stay, and the search for what has to stay."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.quantization.dynamic import quantizable, quantize_model
from compress.quantization.fallback import Outcome, Quantizer, Score, fall_back
from compress.quantization.static import fix_ranges

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from compress.quantization.ranges import Range

FALLBACK_BATCHES = 2  # as many forward passes for every module; of 32 texts each


@dataclass(frozen=True)
class Scheme:
    """One way to quantize a model.

    Attributes:
        name: for notes.
        quantize: does it in place, some modules left out.
        names: modules that can be left out.
        instead: what those are then.
    """

    name: str
    quantize: Quantizer
    names: Sequence[str]
    instead: str


def dynamic(model: PreTrainedModel, embeddings: bool) -> Scheme:
    """Return dynamic int8, falling back to float32."""

    def quantize(model: PreTrainedModel, keep: Collection[str]) -> None:
        quantize_model(model, embeddings, keep)

    return Scheme("dynamic int8", quantize, quantizable(model, embeddings), "float32")


def static(ranges: Mapping[str, Range], embeddings: bool) -> Scheme:
    """Return static int8 of the layers that have a range (low, high), falling back to dynamic int8."""

    def quantize(model: PreTrainedModel, keep: Collection[str]) -> None:
        quantize_model(model, embeddings)
        fix_ranges(model, {name: found for name, found in ranges.items() if name not in keep})

    return Scheme("static int8", quantize, list(ranges), "dynamic int8")


def within_budget(
    model: PreTrainedModel,
    schemes: Sequence[Scheme],
    batches: Sequence[dict[str, Tensor]],
    score: Score,
    max_drop: float,
    time_limit: float,
) -> tuple[Outcome, list[str]]:
    """Try schemes in turn until one keeps the budget, modules falling back where they have to.

    Args:
        model: in float; it is not changed.
        schemes: the one that is wanted first.
        batches: keyword arguments of the model, padded batches of calibration texts; a few are used.
        score: points, more is better.
        max_drop: points that may be lost.
        time_limit: seconds for all; the first scheme is tried at least once.

    Returns:
        The best outcome, and a line each on what was tried, what fell back and why.
    """
    begin = time.monotonic()
    few = batches[:: max(len(batches) // FALLBACK_BATCHES, 1)][:FALLBACK_BATCHES]
    best, notes = None, []
    for scheme in schemes:
        left = time_limit - (time.monotonic() - begin)
        if best is not None and (best.met or left <= 0):
            break
        outcome = fall_back(model, scheme.quantize, scheme.names, few, score, max_drop, left)
        notes += _describe(scheme, outcome, max_drop)
        if best is None or outcome.met or outcome.drop < best.drop:
            best = outcome
    assert best is not None
    return best, notes


def _describe(scheme: Scheme, outcome: Outcome, max_drop: float) -> list[str]:
    lost = (
        f"{outcome.drop:.2f} points lost on dev, {max_drop:g} allowed"
        if outcome.drop > 0
        else "nothing lost on dev"
    )
    cut = "" if outcome.in_time else "; the time limit ended the search"
    models = f"{outcome.tried} model{'s' if outcome.tried > 1 else ''} tried"
    notes = [f"{scheme.name}: {lost}, {models}{cut}"]
    if outcome.kept:
        shown = ", ".join(f"{name} ({moved:.2g})" for name, moved in outcome.kept.items())
        notes.append(
            f"{len(outcome.kept)} of {len(scheme.names)} fell back to {scheme.instead}, as {scheme.name} there "
            f"moves the answer most (divergence alone): {shown}"
        )
    return notes
