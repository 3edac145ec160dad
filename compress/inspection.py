"""What a model folder holds, read from its headers without loading a weight."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from torch import nn

from compress.architectures import Block, blocks
from compress.architectures.reading import base_prefix
from compress.artifact import read_config, verify
from compress.errors import FolderError, InputError
from compress.layers import Int8Embedding
from compress.manifest import PassRecord
from compress.reload import WEIGHTS, structure_in
from compress.sources import resolve_model
from compress.tasks import Task

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel


class Part(BaseModel, frozen=True):
    """Size of one part: elements of its tensors, and their bytes."""

    parameters: int = 0
    bytes: int = 0


class Units(BaseModel, frozen=True):
    """The attentions or feed-forward parts that have one name in every layer.

    Attributes:
        name: the module's name, `*` for the layer's number.
        kind: `attention`, whose units are key-value heads with their query heads, or `feed-forward`, whose
            units are neurons.
        units: how many there are, layer by layer.
        width: inputs of the output projection that a unit has.
        obstacles: why no unit can be removed, by the layer's place in `units`.
    """

    name: str
    kind: str
    units: tuple[int, ...]
    width: int
    obstacles: dict[int, str]


class Inspection(BaseModel, frozen=True):
    """What a model is; `parts` are embeddings, attention, feed-forward, head and other.

    `by_layer` has attention and feed-forward of each layer that was found. `prunable` says what pruning and
    factorization see in it. Both are empty where no layers were found.
    """

    folder: str
    family: str
    layers: int
    task: Task | None
    parameters: int
    bytes: int
    parts: dict[str, Part]
    by_layer: tuple[dict[str, Part], ...]
    prunable: tuple[Units, ...]
    structure: dict[str, dict[str, Any]]
    history: tuple[PassRecord, ...]


def inspect_model(name: str) -> Inspection:
    """Read a model's headers, config and manifest.

    Raises:
        InputError: the name cannot be resolved.
        FolderError: a file is missing, damaged, or not safetensors.
    """
    folder = resolve_model(name).path
    recorded, config = verify(folder), read_config(folder)
    model = _without_weights(config)
    try:
        layers = blocks(model)
    except InputError:
        layers = []
    places = _places(model, layers)
    parts: dict[str, Part] = {}
    by_layer: list[dict[str, Part]] = [{} for _ in layers]
    prefix = base_prefix(model)
    inside = [f"{block.name.removeprefix(prefix)}." for block in layers]
    for key, count, size in _tensors(folder):
        part = _part(key, places, model)
        here = [
            own
            for own, start in zip(by_layer, inside, strict=True)
            if key.removeprefix(prefix).startswith(start)
        ]
        for sums in (parts, *(here if part in ("attention", "feed-forward") else ())):
            old = sums.get(part, Part())
            sums[part] = Part(parameters=old.parameters + count, bytes=old.bytes + size)
    return Inspection(
        folder=str(folder),
        family=config.model_type,
        layers=getattr(config, "num_hidden_layers", len(layers)),
        task=recorded.task,
        parameters=sum(part.parameters for part in parts.values()),
        bytes=sum(part.bytes for part in parts.values()),
        parts=dict(sorted(parts.items())),
        by_layer=tuple(by_layer),
        prunable=_prunable(layers),
        structure=structure_in(config),
        history=recorded.history,
    )


_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def _tensors(folder: Path) -> list[tuple[str, int, int]]:
    """Return the name, the number of elements and the bytes of every tensor in the folder's weight files."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob(WEIGHTS))
    if not files:
        raise FolderError("no safetensors weights", place=str(folder), remedy="Give a model's folder.")
    found = []
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - not a mapping
                    view = tensors.get_slice(key)
                    count = prod(view.get_shape())
                    found.append((key, count, count * _BYTES.get(view.get_dtype(), 4)))
        except SafetensorError as error:
            raise FolderError(
                f"not a whole safetensors file ({error})", place=str(file), remedy="Copy or make it again."
            ) from error
    return found


def _without_weights(config: PretrainedConfig) -> PreTrainedModel:
    """Build the model that the folder holds, without memory for its weights."""
    import torch
    import transformers

    from compress.structure import apply

    named = (getattr(transformers, name, None) for name in config.architectures or ())
    kind = next(filter(None, named), None)
    with torch.device("meta"):
        model: PreTrainedModel = kind(config) if kind else transformers.AutoModel.from_config(config)
    apply(model, structure_in(config))
    return model


def _places(model: PreTrainedModel, layers: list[Block]) -> dict[str, str]:
    """Return which part each module belongs to, with what is below it, by names without the base model's."""
    prefix, places = base_prefix(model), {}
    tables = {
        name: part for name, part in model.named_modules() if isinstance(part, nn.Embedding | Int8Embedding)
    }
    tokens = _token_embedding(model)
    holder = tokens.rpartition(".")[0]
    # GPT-2 keeps its tables beside its layers, BERT in a module of their own.
    if holder and f"{holder}." != prefix and not any(block.name.startswith(holder) for block in layers):
        places[holder] = "embeddings"
    for name, table in tables.items():
        # A table of another width holds something else, such as one number a head.
        if tokens and table.embedding_dim == getattr(model.get_submodule(tokens), "embedding_dim", None):
            places[name] = "embeddings"
    for block in layers:
        for attention in block.attentions:
            rows = (attention.query, attention.key, attention.value, *attention.beside)
            names = (attention.name, attention.output, *(part.module for part in rows))
            places |= dict.fromkeys(names, "attention")
        for feed in block.feed_forwards:
            names = (feed.output, *(part.module for part in feed.inputs))
            places |= dict.fromkeys(names, "feed-forward")
    return {name.removeprefix(prefix): part for name, part in places.items()}


def _token_embedding(model: PreTrainedModel) -> str:
    """Return the name of the token embedding; empty for a model that reads images or sound."""
    try:
        tokens = model.get_input_embeddings()
    except NotImplementedError:
        return ""
    return next((name for name, module in model.named_modules() if module is tokens), "")


def _part(key: str, places: dict[str, str], model: PreTrainedModel) -> str:
    """Return the part of a tensor; the hub has folders with the base model's prefix and without it."""
    prefix = base_prefix(model)
    parent = key.removeprefix(prefix)
    while "." in parent:
        parent = parent.rpartition(".")[0]
        if parent in places:
            return places[parent]
    if key.startswith(prefix) and "embed" in key:
        return "embeddings"
    base = {name for name, _ in model.base_model.named_children()}
    inside = key.startswith(prefix) if prefix else key.partition(".")[0] in base
    return "other" if inside or key.partition(".")[0] in base else "head"


def _prunable(layers: list[Block]) -> tuple[Units, ...]:
    kinds: dict[tuple[str, str], list[Any]] = {}
    for block in layers:
        pattern = re.sub(r"\.\d+$", ".*", block.name)
        found = [("attention", part.name, part) for part in block.attentions]
        for kind, name, part in (*found, *(("feed-forward", p.output, p) for p in block.feed_forwards)):
            kinds.setdefault((kind, pattern + name.removeprefix(block.name)), []).append(part)
    return tuple(
        Units(
            name=name,
            kind=kind,
            units=tuple(part.units for part in parts),
            width=parts[0].unit_width if kind == "attention" else 1,
            obstacles={index: part.obstacle for index, part in enumerate(parts) if part.obstacle},
        )
        for (kind, name), parts in kinds.items()
    )
