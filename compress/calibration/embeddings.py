"""How much each direction of a token embedding matters to the answer, over calibration examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.calibration.statistics import answer_of, directions_of, evaluating, valid_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def embedding_sensitivity(
    model: PreTrainedModel, batches: Iterable[dict[str, Tensor]], seed: int = 0
) -> Tensor:
    """Return Σ_t J_tᵀ J_t a token, J_t the Jacobian of the answer with respect to token t's embedding.

    The S of `compress.calibration.statistics`, for the output of the model's token embedding: one forward and a
    few backward passes.

    Args:
        model: in any mode; it is run in eval mode.
        batches: keyword arguments of the model on its device.
        seed: decides the directions of an answer with many.

    Returns:
        (width, width) float64.
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
                directions = directions_of(answer, generator)
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
    return total / max(tokens, 1)
