"""How important each attention head and feed-forward neuron is. One function, one criterion.

Data-driven criteria put a mask m = 1 on every head's output (the input of the output projection) and on every
neuron's activation (the input of the second feed-forward layer), one mask entry an example. Removing a unit
is setting its mask to 0, and the gradient of an example's loss with respect to its own masks comes out of one
backward pass for the whole batch, without any weight's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.architectures import ffn_widths, head_counts, head_size_of, matrices_of
from compress.layers import LowRankLinear
from compress.pruning.masks import normalised

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batches = Iterable[tuple[dict[str, Tensor], Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Importance:
    """Scores, higher is more important; one float64 tensor a layer.

    Attributes:
        heads: each (heads of the layer,).
        neurons: each (neurons of the layer,).
    """

    heads: list[Tensor]
    neurons: list[Tensor]


def magnitude(model: PreTrainedModel) -> Importance:
    """L2 norm of all weights that would go with a unit, divided by the layer's mean norm.

    A head's weights are its rows of query, key and value and its columns of the output projection; a neuron's
    are its row of the first and its column of the second feed-forward matrix. Norms grow or shrink with depth
    for reasons that say little, hence the division; biases are left out.
    """
    size, heads, neurons = head_size_of(model), [], []
    for names in matrices_of(model):
        weight = {matrix: _weight(model.get_submodule(name)) for matrix, name in names.items()}
        projections = [weight["query"], weight["key"], weight["value"], weight["attention_output"].T]
        columns = torch.stack([matrix.square().sum(1) for matrix in projections]).sum(0)
        heads.append(columns.view(-1, size).sum(1).sqrt())
        neurons.append((weight["ffn_in"].square().sum(1) + weight["ffn_out"].square().sum(0)).sqrt())
    return Importance(normalised(heads), normalised(neurons))


def random(model: PreTrainedModel, seed: int) -> Importance:
    """Uniform noise: the control that any criterion has to beat."""
    generator = torch.Generator().manual_seed(seed)

    def noise(counts: list[int]) -> list[Tensor]:
        return [torch.rand(count, generator=generator, dtype=torch.float64) for count in counts]

    return Importance(noise(head_counts(model)), noise(ffn_widths(model)))


def taylor(model: PreTrainedModel, batches: Batches, loss: Loss) -> Importance:
    """First-order loss change: mean over examples of |dL/dm| at m = 1.

    As dL/dm is the sum over tokens of output times its gradient, this is the head score of Michel et al.
    2019, and for neurons the Taylor criterion of Molchanov et al. 2017. Scores of different
    layers are changes of the same loss and are compared as they are.

    Args:
        model: in any mode; it is run in eval mode.
        batches: (padded batch on the model's device, labels (examples,)).
        loss: logits (examples, outputs) and labels to each example's loss (examples,).
    """
    return _mean_over_examples(model, batches, loss, torch.abs)


def fisher(model: PreTrainedModel, batches: Batches, loss: Loss) -> Importance:
    """Diagonal of the empirical Fisher information of the masks: mean over examples of (dL/dm)² at m = 1.

    By Kwon et al. 2022 (Fisher-based mask search) the loss rises by about half the sum of these over the units that
    go. The square is of each example's own gradient, with the data's labels; scores are compared across
    layers as they are. Arguments are those of `taylor`.
    """
    return _mean_over_examples(model, batches, loss, torch.square)


def example_losses(kind: str) -> Loss:
    """Return the task's loss without reduction: cross-entropy, or squared error for `regression`."""
    if kind == "regression":
        return lambda logits, labels: (logits.squeeze(-1) - labels.to(logits.dtype)).square()
    return lambda logits, labels: nn.functional.cross_entropy(logits, labels, reduction="none")


def _mean_over_examples(
    model: PreTrainedModel, batches: Batches, loss: Loss, form: Callable[[Tensor], Tensor]
) -> Importance:
    """Average `form` of each example's mask gradients."""
    counts = [*head_counts(model), *ffn_widths(model)]
    sums = [torch.zeros(count, dtype=torch.float64, device=model.device) for count in counts]
    examples = 0
    with _evaluating(model), _masked(model) as masks:
        for batch, labels in batches:
            masks.clear()
            total = loss(model(**batch).logits, labels).sum()  # the sum keeps each example's gradient whole
            gradients = torch.autograd.grad(total, [masks[index] for index in range(len(counts))])
            for accumulated, gradient in zip(sums, gradients, strict=True):
                accumulated += form(gradient.double()).sum(0)
            examples += len(labels)
    means = [(accumulated / max(examples, 1)).cpu() for accumulated in sums]
    layers = len(means) // 2
    return Importance(means[:layers], means[layers:])


@contextmanager
def _masked(model: PreTrainedModel) -> Iterator[dict[int, Tensor]]:
    """Multiply masks of ones into every forward pass; yield them by number: all heads', then all neurons'.

    Each is (examples, units) and requires a gradient.
    """
    names, size = matrices_of(model), head_size_of(model)
    masks: dict[int, Tensor] = {}

    def hook(number: int, width: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def multiply(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            x = inputs[0].unflatten(-1, (-1, width))  # (examples, tokens, units, width)
            if number not in masks:
                masks[number] = x.new_ones(x.shape[0], x.shape[2], requires_grad=True)
            return ((x * masks[number][:, None, :, None]).flatten(-2), *inputs[1:])

        return multiply

    hooks = [(layer["attention_output"], size) for layer in names] + [
        (layer["ffn_out"], 1) for layer in names
    ]
    handles = [
        model.get_submodule(name).register_forward_pre_hook(hook(number, width))
        for number, (name, width) in enumerate(hooks)
    ]
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
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


def _weight(module: nn.Module) -> Tensor:
    """Return the matrix (out, in) that a module stands for, in float64."""
    weight = module.dense().weight if isinstance(module, LowRankLinear) else module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().double().cpu()
