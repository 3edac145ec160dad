"""Which layers must stay in higher precision for a model to lose no more than it may.

Independent of the scheme: what quantizes, and what a module falls back to, is a function that is handed in.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.calibration.statistics import answer_of, chooses_class, evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Quantizes a model in place but for the modules named; those become what the scheme falls back to.
Quantizer = Callable[["PreTrainedModel", Collection[str]], None]
Score = Callable[["PreTrainedModel"], float]


@dataclass(frozen=True)
class Outcome:
    """The best quantized model that was found.

    Attributes:
        model: it.
        kept: what fell back, worst first, with the divergence that quantizing it alone causes.
        drop: points lost against the model that came in; negative where it gained.
        met: whether that is within the budget.
        tried: how many models were scored.
        in_time: False where the search was cut off.
    """

    model: PreTrainedModel
    kept: dict[str, float]
    drop: float
    met: bool
    tried: int
    in_time: bool


def fall_back(
    model: PreTrainedModel,
    quantize: Quantizer,
    names: Sequence[str],
    batches: Sequence[dict[str, Tensor]],
    score: Score,
    max_drop: float,
    time_limit: float,
) -> Outcome:
    """Quantize as many modules as the budget allows.

    If the model with all modules quantized loses too much, modules are ordered by `sensitivities`, and how many
    of the first have to fall back is found by doubling and bisection: at most about 2 log2(names) models are made
    and scored. Scores are not monotonous, so the number is one that is enough, not proven the least.

    Args:
        model: in float; it is not changed.
        quantize: makes a quantized model of a copy, some modules left out.
        names: modules that may fall back.
        batches: keyword arguments of the model, for the sensitivities.
        score: points, more is better; called with the model and with every candidate.
        max_drop: points that may be lost.
        time_limit: seconds; nothing new is begun afterwards. The model with all quantized is always made.

    Returns:
        The candidate within the budget with the least that fell back, else the one with the highest score.
    """
    deadline = time.monotonic() + time_limit
    wanted = score(model) - max_drop
    scored: list[float] = []

    def attempt(kept: dict[str, float]) -> Outcome:
        candidate = copy.deepcopy(model)
        quantize(candidate, kept)
        points = score(candidate)
        scored.append(points)
        return Outcome(candidate, kept, wanted + max_drop - points, points >= wanted, len(scored), True)

    best = whole = attempt({})
    if whole.met:
        return whole
    found = sensitivities(model, whole.model, names, batches, deadline)
    order = sorted(found, key=lambda name: -found[name])
    low, high = 0, len(order)  # so many are too few; so many are all, and no candidate
    while high - low > 1 and time.monotonic() < deadline:
        # A few layers do most of the harm: start with one, double until it is enough, then bisect.
        middle = (low + high) // 2 if best.met else min(2 * low or 1, high - 1)
        candidate = attempt({name: found[name] for name in order[:middle]})
        low, high = (low, middle) if candidate.met else (middle, high)
        if candidate.met or (not best.met and candidate.drop < best.drop):
            best = candidate
    in_time = len(found) == len(names) and high - low <= 1
    return Outcome(best.model, best.kept, best.drop, best.met, len(scored), in_time)


@torch.no_grad()
def sensitivities(
    model: PreTrainedModel,
    quantized: PreTrainedModel,
    names: Sequence[str],
    batches: Sequence[dict[str, Tensor]],
    deadline: float = float("inf"),
) -> dict[str, float]:
    """Return how far the answer moves when one module alone is quantized, by name.

    One forward pass over the batches for each module, with the quantized module put into the float model. What
    all of them do together is nearly the sum, as their errors are small and unrelated.

    Args:
        model: in float; as before afterwards.
        quantized: the same model, modules quantized.
        names: modules of both.
        batches: keyword arguments of the models.
        deadline: in the seconds of `time.monotonic`; modules not reached by then are left out.
    """
    found: dict[str, float] = {}
    with evaluating(model):
        expected = [answer_of(model, batch) for batch in batches]
        for name in names:
            if time.monotonic() >= deadline:
                break
            with _swapped(model, name, quantized.get_submodule(name)):
                found[name] = sum(
                    divergence(answer, answer_of(model, batch), chooses_class(model))
                    for answer, batch in zip(expected, batches, strict=True)
                ) / len(batches)
    return found


def divergence(expected: Tensor, answer: Tensor, classes: bool) -> float:
    """Return KL(expected ‖ answer) of logits (examples, classes), the mean over examples.

    Where no softmax reads them (`classes`), and for answers for tokens, the mean squared difference.
    """
    if expected.dim() != 2 or not classes:
        return float((expected - answer).square().mean())
    target, found = expected.double().log_softmax(-1), answer.double().log_softmax(-1)
    return float(nn.functional.kl_div(found, target, reduction="batchmean", log_target=True))


@contextmanager
def _swapped(model: nn.Module, name: str, module: nn.Module) -> Iterator[None]:
    original = model.get_submodule(name)
    model.set_submodule(name, module)
    try:
        yield
    finally:
        model.set_submodule(name, original)
