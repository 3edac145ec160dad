"""How much each direction of a token embedding matters to the answer, over calibration examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.calibration.statistics import answer_of, chooses_class, directions_of, evaluating, valid_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Share of the mean sensitivity that every direction gets besides its own: none that has no effect in calibration
# texts is taken to have none in others. 0.1, 0.3, 1 and 3 were tried for shared rows, 0, 0.1 and 1 for low rank.
EVERY_DIRECTION = 1.0


def embedding_sensitivity(
    model: PreTrainedModel, batches: Iterable[dict[str, Tensor]], seed: int = 0
) -> Tensor:
    """Return S = mean of J_tᵀ J_t over tokens, J_t the Jacobian of the answer by token t's embedding, damped.

    See `compress.calibration.statistics`; this is one forward and a few backward passes a batch.
    `EVERY_DIRECTION` times the mean of its diagonal is added to the diagonal.

    Args:
        model: in any mode; it is run in eval mode.
        batches: keyword arguments of the model on its device.
        seed: decides the directions of an answer with many.

    Returns:
        (width, width) float64, positive definite.
    """
    table: nn.Module = model.get_input_embeddings()
    seen: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1].clone()  # the model may add to it in place

    generator = torch.Generator().manual_seed(seed)
    total: Tensor | float = 0.0
    tokens = 0
    handle = table.register_forward_hook(watch)
    try:
        with evaluating(model), torch.enable_grad():
            for batch in batches:
                seen.clear()
                answer = answer_of(model, batch)
                directions = directions_of(answer, generator, chooses_class(model))
                for number, direction in enumerate(directions):
                    (gradient,) = torch.autograd.grad(
                        (answer * direction).sum(), seen[0], retain_graph=number + 1 < len(directions)
                    )
                    rows = valid_tokens(gradient, batch.get("attention_mask")).double()
                    total = total + rows.T @ rows
                tokens += len(rows)
    finally:
        handle.remove()
    assert isinstance(total, Tensor)  # there is at least one example
    sensitivity = total / max(tokens, 1)
    least = torch.finfo(sensitivity.dtype).tiny  # an answer that follows no token: all directions alike
    sensitivity.diagonal().add_((EVERY_DIRECTION * sensitivity.diagonal().mean()).clamp_min(least))
    return sensitivity
