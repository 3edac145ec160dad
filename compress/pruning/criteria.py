"""How important each attention head and feed-forward neuron is. One function, one criterion.

Each takes the parts whose units are compared and returns one tensor (units,) of float64 scores a part; higher is
more important, and scores of different parts are compared as they are.

`taylor` and `fisher` put a mask m = 1 on every head's output (the input of the output projection) and on every
neuron's activation (the input of the second feed-forward layer), one mask entry an example. Removing a unit
is setting its mask to 0, and the gradient of an example's loss with respect to its own masks comes out of one
backward pass for the whole batch, without any weight's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.calibration.examples import Loss
from compress.calibration.statistics import answer_of, evaluating, measure
from compress.layers.dense import as_linear
from compress.pruning.parts import Part, inputs_of, unit_width

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batches = Iterable[tuple[dict[str, Tensor], Tensor]]


def magnitude(model: PreTrainedModel, parts: Sequence[Part]) -> list[Tensor]:
    """L2 norm of all weights that would go with a unit, divided by the part's mean norm.

    A head's weights are its rows of query, key and value and its columns of the output projection; a neuron's
    are its row of the first (and the gate's) and its column of the second feed-forward matrix. Norms grow or
    shrink with depth for reasons that say little, hence the division; biases are left out.
    """
    scores = []
    for part in parts:
        squares = _output_weight(model, part).square().sum(0)
        total = squares.view(part.units, -1).sum(1)
        for rows in inputs_of(part):
            weight = _weight(model.get_submodule(rows.module))[rows.of_units(range(part.units), part.units)]
            total += weight.square().sum(1).view(part.units, -1).sum(1)
        norm = total.sqrt()
        scores.append(norm / norm.mean().clamp_min(torch.finfo(norm.dtype).tiny))
    return scores


def random(parts: Sequence[Part], seed: int) -> list[Tensor]:
    """Uniform noise: the control that any criterion has to beat."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(part.units, generator=generator, dtype=torch.float64) for part in parts]


def activation(model: PreTrainedModel, parts: Sequence[Part], batches: Batches) -> list[Tensor]:
    """Norm of what a unit adds to the output: sqrt(Σ_j ‖W_:,j‖² E[x_j²]) over its columns j.

    Wanda's product of weight and activation norm (Sun et al. 2023), summed over a unit's weights as squares,
    divided by the part's mean as norms differ by depth. Tokens that are padding do not count.
    """
    seen = measure(model, (batch for batch, _ in batches), [part.output for part in parts], gradients=False)
    scores = []
    for part in parts:
        moments = seen[part.output]
        energy = (moments.gram.diagonal() + moments.mean.square()).cpu()
        squares = _output_weight(model, part).square().sum(0) * energy
        norm = squares.view(part.units, -1).sum(1).sqrt()
        scores.append(norm / norm.mean().clamp_min(torch.finfo(norm.dtype).tiny))
    return scores


def taylor(model: PreTrainedModel, parts: Sequence[Part], batches: Batches, loss: Loss) -> list[Tensor]:
    """First-order loss change: mean over examples of |dL/dm| at m = 1.

    As dL/dm is the sum over tokens of output times its gradient, this is the head score of Michel et al.
    2019, and for neurons the Taylor criterion of Molchanov et al. 2017. Scores of different
    layers are changes of the same loss and are compared as they are.

    Args:
        model: in any mode; it is run in eval mode.
        parts: whose units are scored.
        batches: (padded batch on the model's device, labels (examples,)).
        loss: logits (examples, outputs) and labels to each example's loss (examples,).
    """
    return _mean_over_examples(model, parts, batches, loss, torch.abs)


def fisher(model: PreTrainedModel, parts: Sequence[Part], batches: Batches, loss: Loss) -> list[Tensor]:
    """Diagonal of the empirical Fisher information of the masks: mean over examples of (dL/dm)² at m = 1.

    By Kwon et al. 2022 (Fisher-based mask search) the loss rises by about half the sum of these over the units that
    go. The square is of each example's own gradient, with the data's labels; scores are compared across
    layers as they are. Arguments are those of `taylor`.
    """
    return _mean_over_examples(model, parts, batches, loss, torch.square)


def _mean_over_examples(
    model: PreTrainedModel,
    parts: Sequence[Part],
    batches: Batches,
    loss: Loss,
    form: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Average `form` of each example's mask gradients."""
    sums = [torch.zeros(part.units, dtype=torch.float64, device=model.device) for part in parts]
    examples = 0
    with evaluating(model), _masked(model, parts) as masks:
        for batch, labels in batches:
            for number, part in enumerate(parts):
                masks[number] = torch.ones(
                    len(labels), part.units, dtype=model.dtype, device=model.device, requires_grad=True
                )
            total = loss(answer_of(model, batch), labels).sum()  # the sum keeps each example's gradient whole
            gradients = torch.autograd.grad(total, [masks[index] for index in range(len(parts))])
            for accumulated, gradient in zip(sums, gradients, strict=True):
                accumulated += form(gradient.double()).sum(0)
            examples += len(labels)
    return [(accumulated / max(examples, 1)).cpu() for accumulated in sums]


@contextmanager
def _masked(model: PreTrainedModel, parts: Sequence[Part]) -> Iterator[dict[int, Tensor]]:
    """Multiply masks (examples, units), by the part's number, into every forward pass; yield the dict of them."""
    masks: dict[int, Tensor] = {}

    def hook(number: int, width: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def multiply(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            x, mask = inputs[0], masks[number]
            # Some layers see their tokens as (examples · tokens, width).
            units = x.reshape(len(mask), -1, mask.shape[1], width)
            return ((units * mask[:, None, :, None]).view(x.shape), *inputs[1:])

        return multiply

    handles = [
        model.get_submodule(part.output).register_forward_pre_hook(hook(number, unit_width(part)))
        for number, part in enumerate(parts)
    ]
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()


def _output_weight(model: PreTrainedModel, part: Part) -> Tensor:
    return _weight(model.get_submodule(part.output))


def _weight(module: nn.Module) -> Tensor:
    """Return the matrix (out, in) that a module stands for, in float64."""
    return as_linear(module).weight.detach().double().cpu()
