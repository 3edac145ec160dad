"""What a model is now, where that differs from what its config alone builds.

`structure` maps a module's full name to its description, for changed modules only. It records the result,
never the history: loading builds from the config, applies the structure and loads the weights strictly.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compress.errors import FolderError
from compress.layers import LAYERS, Layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Structure = dict[str, dict[str, Any]]


def describe(model: PreTrainedModel) -> Structure:
    """Return the modules of `model` that its config alone would not build, parents before children."""
    plain = dict(_skeleton(model).named_modules())
    structure: Structure = {}
    for name, module in model.named_modules():
        description = _description(module)
        if description is None:
            continue
        expected = _description(plain[name]) if name in plain else _description_in_parent(structure, name)
        if description != expected:
            structure[name] = description
    return structure


def apply(model: nn.Module, structure: Structure) -> None:
    """Replace modules of a freshly built `model` in place so that it has `structure`; weights stay empty.

    Raises:
        FolderError: a name in the structure does not exist in the model, or its type is unknown.
    """
    for name, description in sorted(structure.items(), key=lambda item: item[0].count(".")):
        try:
            parent = model.get_submodule(name.rpartition(".")[0])
            old = model.get_submodule(name)
        except AttributeError as error:
            raise FolderError(
                f"the structure names a module that the config does not build ({error})",
                place=name,
                remedy="Config and structure come from different models; export or compress the model again.",
            ) from error
        module = _build(name, description).to(_device(old))
        setattr(parent, name.rpartition(".")[2], module)


def _skeleton(model: PreTrainedModel) -> nn.Module:
    """Build the config's own model without memory for weights."""
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))


def _description(module: nn.Module) -> dict[str, Any] | None:
    if isinstance(module, Layer):
        return {"type": type(module).__name__, **module.description()}
    if type(module) is nn.Linear:
        return {
            "type": "Linear",
            "in": module.in_features,
            "out": module.out_features,
            "bias": module.bias is not None,
        }
    if type(module) is nn.Embedding:
        return {"type": "Embedding", "rows": module.num_embeddings, "width": module.embedding_dim}
    return None


def _description_in_parent(structure: Structure, name: str) -> dict[str, Any] | None:
    """Describe what the new parent (a LowRankLinear, say) builds for its own child."""
    parent, _, child = name.rpartition(".")
    if parent not in structure:
        return None
    module = dict(_build(parent, structure[parent]).named_children()).get(child)
    return None if module is None else _description(module)


def _build(name: str, description: dict[str, Any]) -> nn.Module:
    kind = description.get("type")
    if kind == "Linear":
        return nn.Linear(description["in"], description["out"], bias=description["bias"])
    if kind == "Embedding":
        return nn.Embedding(description["rows"], description["width"])
    if kind in LAYERS:
        return LAYERS[kind].build(description)
    raise FolderError(
        f"unknown layer type {kind!r}",
        place=name,
        remedy="The folder was written by a newer version of compress; upgrade it.",
    )


def _device(module: nn.Module) -> torch.device:
    tensor = next(iter([*module.parameters(), *module.buffers()]), None)
    return torch.device("cpu") if tensor is None else tensor.device
