"""Dropping whole transformer layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compress.architectures.families import Stack
from compress.architectures.reading import layer_names, row_of
from compress.errors import InputError
from compress.layers import BiasHeads
from compress.structure import apply, describe, skeleton

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


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
    trial: Any = skeleton(model)  # without weights
    apply(trial, describe(model))
    _keep(trial, stack, chosen, total)
    if difference := _lost_on_reload(trial):
        raise InputError(
            f"{model.config.model_type} cannot be without these layers: a config with {len(chosen)} layers "
            f"builds another model ({difference})",
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
            if "layer_idx" in vars(module):  # a reloaded model numbers its layers anew
                vars(module)["layer_idx"] = index
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


def _lost_on_reload(model: PreTrainedModel) -> str:
    """Say in what a model rebuilt from what would be saved differs; empty where it does not."""
    try:
        saved = json.loads(model.config.to_json_string())
        with torch.device("meta"):
            rebuilt: Any = type(model)(type(model.config).from_dict(saved))
    except Exception as error:  # configs and models check themselves with errors of any kind
        return str(error).splitlines()[0]
    found = describe(model)
    if missing := [name for name in found if not _has(rebuilt, name.rpartition(".")[0])]:
        return f"no {missing[0]}"
    apply(rebuilt, found)
    # The head is left out: stock BART does not save two labels of default names.
    ours, theirs = dict(model.base_model.named_modules()), dict(rebuilt.base_model.named_modules())
    if ours.keys() != theirs.keys():
        return f"modules such as {sorted(ours.keys() ^ theirs.keys())[0]}"
    for name, module in ours.items():
        mine, other = _plain(module), _plain(theirs[name])
        if type(module) is not type(theirs[name]) or mine != other:
            keys = [key for key in mine | other if mine.get(key) != other.get(key)]
            return f"{name}: {', '.join(keys) or 'another class'}"
    return ""


def _has(model: nn.Module, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


def _plain(module: nn.Module) -> dict[str, Any]:
    """Return what decides a module's arithmetic: plain attributes and the shapes of parameters."""
    values = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, int | float | str | None) and name != "training"
    }
    return values | {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
