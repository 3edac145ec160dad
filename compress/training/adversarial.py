"""Training on inputs that were moved where they hurt most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@contextmanager
def perturbed_embeddings(model: PreTrainedModel, size: float) -> Iterator[None]:
    """Move the token embeddings for a while by `size` · g / ‖g‖ (Miyato, Dai, Goodfellow 2017, equation 6).

    g is their gradient. Rows without a gradient stay.

    Args:
        model: after a backward pass.
        size: ε, the Frobenius norm of the move.
    """
    table: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    gradient = table.grad
    norm = None if gradient is None else gradient.norm()
    if gradient is None or norm is None or not bool(norm > 0):
        yield
        return
    before = table.detach().clone()
    with torch.no_grad():
        table.add_(gradient * (size / norm))
    try:
        yield
    finally:
        with torch.no_grad():
            table.copy_(before)
