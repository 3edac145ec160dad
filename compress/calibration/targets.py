"""What the layers of the untouched model compute, kept so that the compressed one can be led back to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.calibration.statistics import evaluating, valid_tokens
from compress.layers.dense import as_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Target:
    """What one linear layer should lead to, for every token that is no padding.

    Attributes:
        norm: the normalisation that reads the residual stream after the layer's output was added to it; empty
            where there is none, and the layer's own output is the target.
        values: the dense model's residual stream (tokens, width), or the dense layer's inputs.
        weight, bias: of the dense layer, where `values` are its inputs.
    """

    norm: str
    values: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None

    def wanted(self, residual: Tensor | None) -> Tensor:
        """Return the output (tokens, out) the layer should have, given the stream before it is added."""
        if self.weight is not None:
            return nn.functional.linear(self.values, self.weight, self.bias)
        assert residual is not None
        return self.values - residual


@torch.no_grad()
def record_targets(
    model: PreTrainedModel, batch: dict[str, Tensor], names: Sequence[str]
) -> dict[str, Target]:
    """Run the untouched model once and keep what the layers `names` should lead to.

    A layer whose output is added to the residual stream gets the stream itself as its target, so that it can
    make up for what the layers before it got wrong. Memory is 4 bytes times tokens times width a layer; layers
    that share an input share its copy. Layers that a forward pass runs more than once are left out.

    Args:
        model: in any mode; it is run in eval mode.
        batch: keyword arguments of the model.
        names: linear layers, in any order.
    """
    norms = _streams(model, {key: value[:2] for key, value in batch.items()}, names)
    mask = batch.get("attention_mask")
    found: dict[str, Target] = {}
    calls: dict[str, int] = {}
    shared: dict[int, tuple[Tensor, Tensor]] = {}

    def read(module: nn.Module, name: str, inputs: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        if name in norms:
            return
        if inputs.data_ptr() not in shared:
            shared.clear()  # only neighbours share an input
            shared[inputs.data_ptr()] = inputs, valid_tokens(inputs, mask)  # held: its address stays its own
        dense = as_linear(module, name)
        found[name] = Target("", shared[inputs.data_ptr()][1], dense.weight, dense.bias)

    readers = {norm: name for name, norm in norms.items()}

    def stream(name: str, z: Tensor) -> None:
        found[readers[name]] = Target(name, valid_tokens(z, mask))

    with evaluating(model), _hooks() as handles:
        for name in names:
            module = model.get_submodule(name)
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, inputs, name=name: read(module, name, inputs[0])
                )
            )
        for norm in readers:
            handles.append(
                model.get_submodule(norm).register_forward_pre_hook(
                    lambda module, inputs, norm=norm: stream(norm, inputs[0])
                )
            )
        model(**batch)
    return {name: target for name, target in found.items() if calls[name] == 1}


def _streams(model: PreTrainedModel, batch: dict[str, Tensor], names: Sequence[str]) -> dict[str, str]:
    """Find, for each layer, the normalisation whose input is the layer's output plus something else.

    Looked for is the next one to run after the layer. That its input z is y + r, with r independent of the
    layer's output y, is proven and not assumed: v ∂z/∂y must be v for a random v.
    """
    pending: dict[str, Tensor] = {}
    found: dict[str, str] = {}
    runs: dict[str, int] = {}
    generator = torch.Generator().manual_seed(0)

    def layer(name: str, output: Tensor) -> Tensor:
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        pending.clear()
        pending[name] = output
        return output.clone()  # the model may add to it in place

    def norm(name: str, z: Tensor) -> None:
        runs[name] = runs.get(name, 0) + 1
        for layer_name, y in pending.items():
            if z.shape != y.shape or not z.requires_grad:
                continue
            v = torch.randn(z.shape, generator=generator).to(z)
            (gradient,) = torch.autograd.grad((z * v).sum(), [y], retain_graph=True, allow_unused=True)
            if gradient is not None and torch.equal(gradient, v):
                found[layer_name] = name
        pending.clear()

    with evaluating(model), torch.enable_grad(), _hooks() as handles:
        for name in names:
            handles.append(
                model.get_submodule(name).register_forward_hook(
                    lambda module, inputs, output, name=name: layer(name, output)
                )
            )
        for name, module in model.named_modules():
            if type(module).__name__.endswith("Norm"):
                handles.append(
                    module.register_forward_pre_hook(lambda module, inputs, name=name: norm(name, inputs[0]))
                )
        model(**batch)
    return {layer: norm for layer, norm in found.items() if runs[norm] == 1}


@contextmanager
def _hooks() -> Iterator[list[Any]]:
    handles: list[Any] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
