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
from compress.layers import LAYERS, BiasHeads, Layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Structure = dict[str, dict[str, Any]]


def describe(model: PreTrainedModel) -> Structure:
    """Return the modules of `model` that its config alone would not build, parents before children."""
    plain = dict(skeleton(model).named_modules())
    structure: Structure = {}
    for name, module in model.named_modules():
        description = _description(module)
        if description is not None:
            expected = _description(plain[name]) if name in plain else _description_in_parent(structure, name)
            if description != expected:
                structure[name] = description
        elif name in plain and (shapes := _differing_shapes(module, plain[name])):
            structure[name] = {"type": "Attributes", "shapes": shapes}
    for name, values in _differing_values(model, plain, structure).items():
        structure[name] = structure.get(name, {"type": "Attributes"}) | {"values": values}
    return structure


def apply(model: nn.Module, structure: Structure) -> None:
    """Replace modules of a freshly built `model` in place so that it has `structure`; weights stay empty.

    Raises:
        FolderError: a name in the structure does not exist in the model, or its type is unknown.
    """
    for name, description in sorted(structure.items(), key=lambda item: item[0].count(".")):
        beside = description.get("type") == BiasHeads.__name__
        try:
            parent = model.get_submodule(name.rpartition(".")[0])
            old = parent if beside else model.get_submodule(name)
        except AttributeError as error:
            raise FolderError(
                f"the structure names a module that the config does not build ({error})",
                place=name,
                remedy="Config and structure come from different models; export or compress the model again.",
            ) from error
        if description.get("type") == "Attributes":
            _set_attributes(old, description)
            continue
        module = _build(name, description).to(_device(old, model))
        if isinstance(module, BiasHeads):
            module.attach(parent)
        else:
            setattr(parent, name.rpartition(".")[2], module)


def skeleton(model: PreTrainedModel) -> nn.Module:
    """Build the config's own model without memory for weights."""
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))


def _description(module: nn.Module) -> dict[str, Any] | None:
    """Describe a module that `_build` can make; None for any other kind."""
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
    if type(module) is nn.LayerNorm:
        return {
            "type": "LayerNorm",
            "shape": list(module.normalized_shape),
            "eps": module.eps,
            "affine": module.elementwise_affine,
            "bias": module.bias is not None,
        }
    return {"type": "Identity"} if type(module) is nn.Identity else None


def _description_in_parent(structure: Structure, name: str) -> dict[str, Any] | None:
    """Describe what the new parent (a LowRankLinear, say) builds for its own child."""
    parent, _, child = name.rpartition(".")
    if parent not in structure or structure[parent]["type"] == "Attributes":
        return None
    module = dict(_build(parent, structure[parent]).named_children()).get(child)
    return None if module is None else _description(module)


def _differing_shapes(module: nn.Module, plain: nn.Module) -> dict[str, list[int]]:
    """Return the shapes of parameters that a module of the same class has otherwise: RMSNorm's weight, say."""
    shapes = {name: list(parameter.shape) for name, parameter in plain.named_parameters(recurse=False)}
    return {
        name: list(parameter.shape)
        for name, parameter in module.named_parameters(recurse=False)
        if shapes.get(name) != list(parameter.shape)
    }


def _differing_values(
    model: nn.Module, plain: dict[str, nn.Module], structure: Structure
) -> dict[str, dict[str, int]]:
    """Return whole-number attributes that differ, for modules that hold or are a changed one.

    Others count what they have seen, such as the longest input of a rotary embedding.
    """
    changed = {name for name, entry in structure.items() if entry["type"] == "Attributes"}
    for name in structure:
        parts = name.split(".")
        changed |= {".".join(parts[:end]) for end in range(len(parts))}
    found = {}
    for name, module in model.named_modules():
        if name not in changed or name not in plain or _description(module) is not None:
            continue
        expected = vars(plain[name])
        values = {key: value for key, value in vars(module).items() if type(value) is int}
        if values := {key: value for key, value in values.items() if expected.get(key) != value}:
            found[name] = values
    return found


def _set_attributes(module: nn.Module, description: dict[str, Any]) -> None:
    for name, shape in description.get("shapes", {}).items():
        old = getattr(module, name)
        new = torch.empty(shape, dtype=old.dtype, device=old.device)
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
    for name, value in description.get("values", {}).items():
        setattr(module, name, value)


def _build(name: str, description: dict[str, Any]) -> nn.Module:
    kind = description.get("type")
    if kind == "Linear":
        return nn.Linear(description["in"], description["out"], bias=description["bias"])
    if kind == "Embedding":
        return nn.Embedding(description["rows"], description["width"])
    if kind == "LayerNorm":
        return nn.LayerNorm(
            description["shape"], description["eps"], description["affine"], bias=description["bias"]
        )
    if kind == "Identity":
        return nn.Identity()
    if kind in LAYERS:
        return LAYERS[kind].build(description)
    raise FolderError(
        f"unknown layer type {kind!r}",
        place=name,
        remedy="The folder was written by a newer version of compress; upgrade it.",
    )


def _device(*modules: nn.Module) -> torch.device:
    """Return the device of the first module that has tensors."""
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
