"""Which inputs of a linear layer its loss depends on: FWSVD's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.calibration.statistics import answer_of, evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fisher_weights(
    model: PreTrainedModel,
    names: Sequence[str],
    batches: Iterable[tuple[dict[str, Tensor], Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Return, for each layer, the empirical Fisher information of its weights summed by input, (in,) float64.

    Hsu et al. 2022 (FWSVD, equation 7): Î_i = Σ_j E[(∂L/∂W_ji)²], with each example's own gradient and the
    data's labels; used as a diagonal Gram matrix.

    Args:
        model: in any mode; it is run in eval mode.
        names: linear layers.
        batches: (padded batch, labels (examples,)).
        loss: logits (examples, outputs) and labels to each example's loss (examples,).
    """
    sums: dict[str, Tensor] = {}
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:
                output = output.detach().requires_grad_()
            seen.setdefault(name, []).append((inputs[0].detach(), output))
            return output.clone()  # the model may add to it in place

        return record

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    examples = 0
    try:
        with evaluating(model), torch.enable_grad():
            for batch, labels in batches:
                seen.clear()
                total = loss(answer_of(model, batch), labels).sum()
                calls = [(name, x, y) for name, pairs in seen.items() for x, y in pairs]
                gradients = torch.autograd.grad(total, [y for _, _, y in calls])
                for name in seen:
                    # (examples, out, in): an example's gradient is summed over its tokens and calls first
                    whole = sum(
                        torch.einsum("bto,bti->boi", *(_by_example(z, len(labels)) for z in (gradient, x)))
                        for gradient, (other, x, _) in zip(gradients, calls, strict=True)
                        if other == name
                    )
                    assert isinstance(whole, Tensor)
                    sums[name] = sums.get(name, 0) + whole.double().square().sum((0, 1))
                examples += len(labels)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / max(examples, 1) for name, total in sums.items()}


def _by_example(x: Tensor, examples: int) -> Tensor:
    """Return (examples, tokens, width): some layers see their tokens as (examples · tokens, width)."""
    return x.reshape(examples, -1, x.shape[-1])
