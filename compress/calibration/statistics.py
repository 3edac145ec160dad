"""How much a linear layer's inputs and outputs matter: second moments over calibration examples.

A change ΔW of a layer's weight changes its output at token t by ΔW x_t and, to first order, the model's answer
by J_t ΔW x_t, J_t the Jacobian of the answer with respect to that output. Taking inputs and Jacobians as
independent, as K-FAC does (Martens & Grosse 2015, section 3), the squared change of the answer is on average

    E‖Δanswer‖² ≈ tr(S ΔW G ΔWᵀ)

with G the input moments, every token weighted by ‖J_t‖², and S = Σ_t J_tᵀ J_t an example. That one number
compares a head of the first layer with a rank of the last; no labels are needed. The weights matter where
only some tokens are read: of a classifier's last layer all but the first token's output goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.calibration.products import add_product_, mirror_, working_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Share of all tokens' mean weight that every token gets besides its own: what calibration found unimportant
# may not be so for other text, and moments of few tokens are singular. 0.1, 0.5 and 2 were tried.
EVERY_TOKEN = 0.5
# The same for the directions of a layer's output, as a share of their mean sensitivity.
EVERY_OUTPUT = 0.1
# Directions of the answer that are followed back, where it has more than this many.
_PROBES = 4


@dataclass
class LinearStatistics:
    """What one linear layer saw, in float64.

    Attributes:
        mean: weighted mean input (in,).
        gram: weighted second moments of the inputs (in, in), their mean taken out.
        sensitivity: S above, (out, out); the identity where gradients were not asked for.
        token_weights: weight of every token, in the order of `valid_tokens`, mean 1; empty without gradients.
        calls: how often one forward pass runs the layer.
    """

    mean: Tensor
    gram: Tensor
    sensitivity: Tensor
    token_weights: Tensor
    calls: int


@dataclass
class _Moments:
    """Weighted sums over rows: of the rows (width,) in float64, of their outer products (width, width)."""

    first: Tensor
    second: Tensor

    @classmethod
    def zeros(cls, like: Tensor) -> _Moments:
        width = like.shape[-1]
        return cls(like.new_zeros(width, dtype=torch.float64), like.new_zeros(width, width))

    def add(self, rows: Tensor, weighted: Tensor) -> None:
        self.first += weighted.sum(0, dtype=torch.float64)
        add_product_(self.second, rows, weighted)


@dataclass
class _Sums:
    examples: int = 0
    shift: Tensor | None = None  # about the mean input (in,); taken from every row before it is squared
    plain: _Moments | None = None
    weighted: _Moments | None = None
    gradients: Tensor | None = None
    tokens: list[Tensor] = field(default_factory=list)  # ‖J_t‖², or ones
    calls: int = 0
    outputs: int = 0


def valid_tokens(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the rows (tokens, width) of x (examples, length, width) that are no padding."""
    rows = x.flatten(0, -2)  # some layers see their tokens as (examples · length, width)
    return rows[mask.flatten().bool()] if mask is not None and len(rows) == mask.numel() else rows


def weights_of_tokens(statistics: Mapping[str, LinearStatistics], name: str, x: Tensor) -> Tensor | None:
    """Return a layer's token weights where they were measured for the rows of x (tokens, in), else None.

    A layer that reads another sequence than the one that the mask is for sees padding too, as much of it as
    the batch has; weights of other batches do not fit it then.
    """
    seen = statistics.get(name)
    return seen.token_weights if seen is not None and len(seen.token_weights) == len(x) else None


def measure(
    model: PreTrainedModel,
    batches: Iterable[dict[str, Tensor]],
    names: Sequence[str],
    gradients: bool = True,
    seed: int = 0,
) -> dict[str, LinearStatistics]:
    """Run `model` over batches and measure its linear layers `names`.

    One forward pass a batch and, with gradients, as many backward passes through activations as the answer has
    free directions, four at most. Memory is 8 bytes times in² + out² a layer, time linear in tokens and layers.

    Products are summed in float32 (float64 for a float64 model), of inputs less the mean of the first batch: what
    rounding does to a moment is then measured by the inputs' variance and not by their mean. An entry (i, j) is
    off by about √tokens · 2⁻²⁴ times the geometric mean of the diagonal's entries i and j (see `add_product_` for
    the bound), far less than the damping of whatever is inverted.

    Args:
        model: in any mode; it is run in eval mode. Layers may be of any kind that maps (..., in) to (..., out).
        batches: keyword arguments of the model on its device.
        names: full names of the layers.
        gradients: False weighs all tokens and outputs alike.
        seed: decides the directions of an answer with many.

    Returns:
        Statistics by name; a layer that was never run is left out.
    """
    sums = {name: _Sums() for name in names}
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model), torch.set_grad_enabled(gradients), _watched(model, names) as seen:
        for batch in batches:
            seen.clear()
            answer = answer_of(model, batch)
            directions = directions_of(answer, generator, chooses_class(model)) if gradients else []
            weights = _token_weights(answer, seen, sums, directions) if gradients else {}
            _add(sums, seen, weights, batch.get("attention_mask"), len(answer))
    # One layer's sums go as its statistics come: both at once would be the peak of memory.
    return {name: _statistics(total) for name in list(sums) if (total := sums.pop(name)).calls}


def answer_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return logits (examples, outputs), or what is said of tokens (examples, length, outputs), padding zeroed.

    The latter are logits of tokens, starts and ends of spans, or the last hidden state of a model without a head.
    """
    out = model(**batch)
    if hasattr(out, "start_logits"):
        answer: Tensor = torch.stack([out.start_logits, out.end_logits], -1)
    else:
        answer = out.logits if hasattr(out, "logits") else out.last_hidden_state
    mask = batch.get("attention_mask")
    return answer if answer.dim() == 2 or mask is None else answer * mask[..., None]


def chooses_class(model: PreTrainedModel) -> bool:
    """Say whether a softmax reads the answer's last axis: one class out of several, of a text or a token."""
    name = type(model).__name__
    if model.base_model is model or name.endswith("ForQuestionAnswering"):
        return False
    several = getattr(model.config, "problem_type", None) == "multi_label_classification"
    return not several and (model.config.num_labels != 1 or "Classification" not in name)


def directions_of(answer: Tensor, generator: torch.Generator, classes: bool = True) -> list[Tensor]:
    """Return tensors like the answer whose products with it, squared and summed, make ‖answer‖² on average.

    What all classes share does not change a softmax and is left out where `classes` says that one reads them.
    """
    if answer.dim() == 2 and answer.shape[1] <= _PROBES:
        width = answer.shape[1]
        if width == 1:
            return [torch.ones_like(answer)]
        if not classes:
            return [row.to(answer).expand_as(answer) for row in torch.eye(width)]
        centred = torch.eye(width) - 1 / width
        basis = torch.linalg.svd(centred).Vh[: width - 1]
        return [row.to(answer).expand_as(answer) for row in basis]
    probes = []
    for _ in range(_PROBES):
        probe = torch.randn(answer.shape, generator=generator).to(answer)
        if answer.dim() == 2 and classes:
            probe = probe - probe.mean(-1, keepdim=True)
        probes.append(probe / _PROBES**0.5)
    return probes


Seen = dict[str, list[tuple[Tensor, Tensor]]]  # by layer: input and output of every call


def _token_weights(
    answer: Tensor, seen: Seen, sums: dict[str, _Sums], directions: Sequence[Tensor]
) -> dict[str, list[Tensor]]:
    """Return ‖J_t‖² of every token, one tensor a call, and add up J_tᵀ J_t."""
    calls = [(name, output) for name, pairs in seen.items() for _, output in pairs]
    weights: list[Tensor | float] = [0.0] * len(calls)
    for index, direction in enumerate(directions):
        found = torch.autograd.grad(
            (answer * direction).sum(),
            [output for _, output in calls],
            retain_graph=index + 1 < len(directions),
            allow_unused=True,
        )
        for number, (gradient, (name, output)) in enumerate(zip(found, calls, strict=True)):
            gradient = torch.zeros_like(output) if gradient is None else gradient
            rows = gradient.flatten(0, -2).to(working_dtype(gradient.dtype))
            squares = rows.square().sum(-1, dtype=torch.float64)
            weights[number] = weights[number] + squares.view(gradient.shape[:-1])
            total = sums[name]
            if total.gradients is None:
                total.gradients = rows.new_zeros(rows.shape[-1], rows.shape[-1])
            add_product_(total.gradients, rows, rows)
    result: dict[str, list[Tensor]] = {}
    for (name, _), weight in zip(calls, weights, strict=True):
        assert isinstance(weight, Tensor)
        result.setdefault(name, []).append(weight)
    return result


@torch.no_grad()
def _add(
    sums: dict[str, _Sums],
    seen: Seen,
    weights: dict[str, list[Tensor]],
    mask: Tensor | None,
    examples: int,
) -> None:
    for name, pairs in seen.items():
        total = sums[name]
        total.examples += examples
        total.calls = len(pairs)
        for call, (x, output) in enumerate(pairs):
            rows = valid_tokens(x, mask).to(working_dtype(x.dtype))
            if total.shift is None:
                total.shift = rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[-1])
            rows = rows - total.shift
            total.outputs = output.shape[-1]
            total.plain = total.plain or _Moments.zeros(rows)
            total.plain.add(rows, rows)
            if name not in weights:
                total.tokens.append(rows.new_ones(len(rows), dtype=torch.float64))
                continue
            weight = valid_tokens(weights[name][call][..., None], mask)
            total.tokens.append(weight[:, 0])
            total.weighted = total.weighted or _Moments.zeros(rows)
            total.weighted.add(rows, rows * weight.to(rows.dtype))


def _statistics(total: _Sums) -> LinearStatistics:
    assert total.plain is not None
    assert total.shift is not None
    weights = torch.cat(total.tokens)
    first, second = total.plain.first, total.plain.second
    if total.weighted is not None:
        every = EVERY_TOKEN * weights.mean()
        weights = weights + every
        first = total.weighted.first + every * first
        second = total.weighted.second.add_(second, alpha=float(every))
    scale = 1 / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    mean = first * scale
    gram = mirror_(second.double().mul_(scale))
    noise = len(weights) * torch.finfo(second.dtype).eps * gram.diagonal()
    gram.addr_(mean, mean, alpha=-1)
    # Inputs that never vary: what rounding leaves of them may be no covariance at all.
    still = gram.diagonal() <= noise
    gram[still] = 0
    gram[:, still] = 0
    mean = mean + total.shift  # which a covariance does not see
    if total.gradients is not None:
        sensitivity = mirror_(total.gradients.double().div_(max(total.examples, 1)))
        sensitivity.diagonal().add_(EVERY_OUTPUT * sensitivity.diagonal().mean())
        weights = weights / weights.mean().clamp_min(torch.finfo(weights.dtype).tiny)
    else:
        sensitivity = torch.eye(total.outputs, dtype=torch.float64, device=mean.device)
        weights = mean.new_empty(0)
    return LinearStatistics(mean, gram, sensitivity, weights, total.calls)


@contextmanager
def _watched(model: nn.Module, names: Sequence[str]) -> Iterator[Seen]:
    """Record input and output of every call of the layers; outputs require a gradient where one can."""
    seen: Seen = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not output.requires_grad:
                output = output.detach().requires_grad_()
            seen.setdefault(name, []).append((inputs[0].detach(), output))
            return output.clone()  # the model may add to it in place

        return record

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode with every parameter's gradient off, undone at the end."""
    training, wanted = model.training, [(p, p.requires_grad) for p in model.parameters()]
    model.train(False)
    model.requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)
