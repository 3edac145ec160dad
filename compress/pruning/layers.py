"""Dropping whole transformer layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from compress.architectures import family_of, layers_of
from compress.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evenly_spaced(total: int, keep: int) -> list[int]:
    """Return which `keep` of `total` layers stay: the last layer of each of `keep` groups of equal size.

    Layer i of the smaller model is layer `(i + 1) * total // keep - 1` of the larger, so that the last one
    always stays and each kept layer ends the stretch it stands for: 3 of 6 gives [1, 3, 5].

    Raises:
        InputError: `keep` is not in 1..total.
    """
    if not 1 <= keep <= total:
        raise InputError(
            f"cannot keep {keep} of {total} layers",
            place="layers",
            remedy=f"Give a number from 1 to {total}.",
        )
    return [(index + 1) * total // keep - 1 for index in range(keep)]


def keep_layers(model: PreTrainedModel, indices: Sequence[int]) -> None:
    """Keep the layers `indices` (ascending) of `model` in place, with their weights, and fix its config.

    The result has the structure of an ordinary model with fewer layers, whatever was pruned inside them.

    Raises:
        InputError: the indices are empty, not ascending or out of range, or the family has no table row.
    """
    family, layers = family_of(model.config), layers_of(model)
    chosen = list(indices)
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= len(layers):
        raise InputError(
            f"cannot keep layers {chosen} of {len(layers)}",
            place="layers",
            remedy=f"Give ascending indices from 0 to {len(layers) - 1}.",
        )
    parent, _, name = family.layers.rpartition(".")
    kept = nn.ModuleList(layers[index] for index in chosen)
    for index, layer in enumerate(kept):
        for module in layer.modules():
            if "layer_idx" in vars(module):  # a reloaded model numbers its layers anew
                vars(module)["layer_idx"] = index
    setattr(model.base_model.get_submodule(parent), name, kept)
    setattr(model.config, family.layer_count, len(kept))
