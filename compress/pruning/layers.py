"""Dropping whole transformer layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compress.architectures.families import Stack
from compress.architectures.reading import layer_names, row_of
from compress.errors import InputError, first_line
from compress.layers import BiasHeads
from compress.structure import apply, describe, skeleton

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_NUMBERS = {"layer_idx", "layer_id"}  # what modules call their layer's place


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

    The result has the structure of an ordinary model with fewer layers, whatever was pruned inside them. Of an
    encoder and a decoder the encoder is cut. ALBERT, whose layers share their weights, runs fewer times.

    Raises:
        InputError: the indices are empty, not ascending or out of range; or the family's config cannot say
            that these layers are left.
    """
    stack = next(stack for stack in row_of(model).stacks if layer_names(model, stack))
    total = getattr(model.config, stack.layer_count) if stack.shared else len(layer_names(model, stack))
    chosen = list(indices)
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= total:
        raise InputError(
            f"cannot keep layers {chosen} of {total}",
            place="layers",
            remedy=f"Give ascending indices from 0 to {total - 1}.",
        )
    if stack.shared and getattr(model.config, "num_hidden_groups", 1) > 1:
        difference = "several groups of layers share weights among them"
    else:
        difference = _lost_on_reload(model, stack, chosen, total)
    if difference:
        raise InputError(
            f"{model.config.model_type} cannot do with these layers alone, as a config of {len(chosen)} layers "
            f"stands for another model ({difference})",
            place="layers",
            remedy="Keep other layers, or prune inside them.",
        )
    _keep(model, stack, chosen, total)


def _keep(model: PreTrainedModel, stack: Stack, chosen: list[int], total: int) -> None:
    _shorten(model.config, stack.layer_count, chosen, total)
    if stack.shared:
        return
    names = layer_names(model, stack)
    layers = [model.get_submodule(name) for name in names]
    _hand_on_bias(layers[0], layers[chosen[0]], names[chosen[0]])
    for index, layer in enumerate(layers[index] for index in chosen):
        for module in layer.modules():
            for name in _NUMBERS & vars(module).keys():
                if type(getattr(module, name)) is int:
                    setattr(module, name, index)  # as in a reloaded model
    parent, _, name = names[0].rpartition(".")[0].rpartition(".")
    setattr(model.get_submodule(parent), name, nn.ModuleList(layers[index] for index in chosen))


def _shorten(config: PretrainedConfig, count: str, chosen: list[int], total: int) -> None:
    """Set the number of layers and cut the lists that have an entry a layer, such as `layer_types`."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == total and "layer" in name:
            setattr(config, name, [value[index] for index in chosen])
    setattr(config, count, len(chosen))


def _hand_on_bias(old: nn.Module, new: nn.Module, name: str) -> None:
    """Move T5's table of relative positions, which its first layer keeps for all, to the new first layer."""
    if old is new:
        return
    for place, module in old.named_modules():
        table = module._modules.get("relative_attention_bias")
        if table is None or not getattr(module, "has_relative_attention_bias", False):
            continue
        if any(isinstance(part, BiasHeads) for part in new.modules()):
            raise InputError(
                "the first layer computes the position bias of all heads, and this layer lacks some",
                place=name,
                remedy="Keep the first layer, or drop layers before heads.",
            )
        heir: Any = new.get_submodule(place)
        heir.relative_attention_bias, heir.has_relative_attention_bias = table, True


def _lost_on_reload(model: PreTrainedModel, stack: Stack, chosen: list[int], total: int) -> str:
    """Say in what a model rebuilt from what would be saved differs; empty where it does not.

    All is tried without weights. The task head is left out: stock BART does not save two labels of default
    names.
    """
    trial: Any = skeleton(model)
    apply(trial, describe(model))
    try:
        _keep(trial, stack, chosen, total)
        saved = type(trial.config).from_dict(json.loads(trial.config.to_json_string()))
        with torch.device("meta"):
            rebuilt: Any = type(model)(saved)
        apply(rebuilt, describe(trial))
    except InputError:
        raise
    except Exception as error:  # configs and models check themselves with errors of any kind
        return first_line(error)
    ours, theirs = (dict(one.base_model.named_modules()) for one in (trial, rebuilt))
    if names := ours.keys() ^ theirs.keys():
        return f"in {min(names)}"
    layers = {part for name in layer_names(trial, stack) for part in trial.get_submodule(name).modules()}
    for name, module in ours.items():
        inside = module in layers
        if type(module) is not type(theirs[name]) or _facts(module, inside) != _facts(theirs[name], inside):
            return f"in {name}"
    return ""


def _facts(module: nn.Module, inside: bool) -> dict[str, Any]:
    """Return the shapes of a module's parameters and, `inside` a layer, its plain attributes."""
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters(recurse=False)}
    values = {
        name: value
        for name, value in vars(module).items()
        if inside and isinstance(value, int | float | str | None) and name != "training"
    }
    return shapes | values
