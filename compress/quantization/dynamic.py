"""Dynamic int8: weights are rounded once, activations as they come, so that no calibration data is needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from compress.errors import InputError
from compress.layers import Int8Embedding, Int8Linear
from compress.layers.dense import as_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST = 127  # -128 stays unused: the grid is symmetric and negation is exact


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix to int8, symmetric, with one scale a row (output channel).

    `scale = max|row| / 127` and `codes = round(row / scale)`, halves to even; `|w - scale · code| ≤ scale / 2`.
    A row of zeros gets scale 1 and keeps its exact value. Scheme: Jacob et al. 2018 (arXiv:1712.05877), section
    2.1, with zero point 0.

    Args:
        weight: (rows, columns) floats; rounded from their float32 value.

    Returns:
        Codes (rows, columns) int8 in -127…127 and scale (rows,) float32, positive.

    Raises:
        InputError: the matrix holds a value that is not finite.
    """
    weight = weight.detach().to(torch.float32)
    check_finite(weight)
    scale = weight.abs().amax(dim=1) / LARGEST
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    codes = (weight / scale[:, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    return codes, scale


def check_finite(weight: Tensor) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        InputError: there is one.
    """
    if not torch.isfinite(weight).all():
        raise InputError(
            "the weights are not all finite",
            place="quantize",
            remedy="The training before diverged; use an earlier checkpoint or a lower learning rate.",
        )


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 matrix (rows, columns) that codes int8 and scale (rows,) or (rows, 1) stand for."""
    return codes.to(torch.float32) * scale.reshape(-1, 1)


def quantize_model(model: PreTrainedModel, embeddings: bool = True, keep: Collection[str] = ()) -> list[str]:
    """Replace the linear layers and the embedding tables of a model by int8 ones, in place.

    What stays in float32: what `quantizable` leaves out, LayerNorm and biases. A half-precision model becomes
    float32 first, as int8 layers compute in float32.

    Args:
        model: any model made of `nn.Linear`, GPT-2's `Conv1D` and `nn.Embedding`, factors of `LowRankLinear`
            included.
        embeddings: whether embedding tables are quantized too.
        keep: full names of modules that stay in float32.

    Returns:
        The names of the modules that were replaced, in the model's order.

    Raises:
        InputError: nothing was left to quantize, or weights are not finite.
    """
    model.float()
    names = [name for name in quantizable(model, embeddings) if name not in keep]
    for name in names:
        module = model.get_submodule(name)
        if isinstance(module, nn.Embedding):
            model.set_submodule(name, quantize_embedding(name, module))
        else:
            model.set_submodule(name, _linear(name, as_linear(module)))
    return names


def quantizable(model: PreTrainedModel, embeddings: bool = True) -> list[str]:
    """Return the names of the modules that `quantize_model` replaces, in the model's order.

    Left out are the task head's last linear layer, which is small and decides; weights that two modules share
    (see `tied_weights`); tables that are no token embeddings, such as MPNet's attention bias.

    Args:
        model: in float32.
        embeddings: whether embedding tables count.

    Raises:
        InputError: there is none.
    """
    kept = tied_weights(model) | {_last_of_head(model)}
    tables = _embedding_tables(model) if embeddings else set()
    found = [
        name
        for name, module in model.named_modules()
        if name not in kept and (_is_linear(module) or (type(module) is nn.Embedding and name in tables))
    ]
    if not found:
        raise InputError(
            "the model has no float linear layer or embedding that can be quantized",
            place=model.config.model_type,
            remedy="It is quantized already, or made of other layers than nn.Linear.",
        )
    return found


def other_matrices(model: nn.Module) -> dict[str, int]:
    """Count the weights of matrices that `quantize_model` cannot take, by the kind of module that holds them.

    Convolutions and experts kept in one tensor are such; they stay float32.
    """
    counts: dict[str, int] = defaultdict(int)
    for module in model.modules():
        if type(module) not in (nn.Linear, nn.Embedding, Conv1D):
            weights = sum(p.numel() for p in module.parameters(recurse=False) if p.ndim > 1)
            if weights:
                counts[type(module).__name__] += weights
    return dict(counts)


def tied_weights(model: nn.Module) -> set[str]:
    """Return the names of linear and embedding modules whose weight another module uses too.

    Quantizing one of them would untie it: twice the bytes, and two sets of codes for one matrix.
    """
    users: dict[int, set[str]] = defaultdict(set)
    for name, module in model.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            users[id(parameter)].add(name)
    return {name for names in users.values() if len(names) > 1 for name in names}


def _last_of_head(model: PreTrainedModel) -> str:
    """Return the name of the linear layer that gives the logits; empty for a model without a head."""
    if model.base_model is model:
        return ""
    base = f"{model.base_model_prefix}."
    head = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(base)
    ]
    return head[-1] if head else ""


def _embedding_tables(model: PreTrainedModel) -> set[str]:
    """Return the names of the tables that turn token, position and type ids into vectors.

    They are those that stand beside the token embeddings. A table elsewhere may be read as a matrix, as
    DeBERTa's relative positions are, or hold one number a head, as T5's do.
    """
    names = {module: name for name, module in model.named_modules()}
    try:
        token = names[model.get_input_embeddings()]
    except NotImplementedError:  # it reads characters or images
        return set()
    beside = token.rpartition(".")[0]
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        # Below it where it is shared or a low-rank pair.
        and (name.rpartition(".")[0] == beside or name.startswith(f"{token}."))
    }


def _is_linear(module: nn.Module) -> bool:
    """Say whether a module is a float linear layer; a subclass has to show that it computes one (Falcon's)."""
    if type(module) is nn.Linear or type(module) is Conv1D:
        return True
    if not isinstance(module, nn.Linear):
        return False
    x = torch.linspace(-1, 1, module.in_features, device=module.weight.device)[None]
    with torch.no_grad():
        expected = nn.functional.linear(x, module.weight, module.bias)
        try:
            return torch.allclose(module(x), expected, rtol=1e-4, atol=1e-5)
        except Exception:  # it takes other arguments
            return False


def _linear(name: str, old: nn.Linear) -> Int8Linear:
    new = Int8Linear(old.in_features, old.out_features, old.bias is not None)
    new.weight, new.scale = _quantized(name, old.weight)
    if old.bias is not None:
        new.bias = old.bias.detach().clone()
    return new.train(old.training)


def quantize_embedding(name: str, old: nn.Embedding) -> Int8Embedding:
    """Return the int8 table for a float one; `name` is for the message where a value is not finite."""
    new = Int8Embedding(old.num_embeddings, old.embedding_dim)
    codes, scale = _quantized(name, old.weight)
    new.weight, new.scale = codes, scale[:, None]
    return new.train(old.training)


def _quantized(name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    try:
        return quantize_weight(weight)
    except InputError as error:
        raise InputError(error.cause, place=name, remedy=error.remedy) from None
