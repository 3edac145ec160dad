"""What a model folder holds, read from its headers without loading a weight."""

from __future__ import annotations

from math import prod
from typing import Any

from pydantic import BaseModel

from compress.architectures import FAMILIES
from compress.artifact import read_config, verify
from compress.errors import FolderError
from compress.manifest import PassRecord
from compress.reload import WEIGHTS, structure_in
from compress.sources import resolve_model
from compress.tasks import Task


class Part(BaseModel, frozen=True):
    """Size of one part: elements of its tensors, and their bytes."""

    parameters: int = 0
    bytes: int = 0


class Inspection(BaseModel, frozen=True):
    """What a model is; `parts` are embeddings, attention, feed-forward, head and other."""

    folder: str
    family: str
    layers: int
    task: Task | None
    parameters: int
    bytes: int
    parts: dict[str, Part]
    structure: dict[str, dict[str, Any]]
    history: tuple[PassRecord, ...]


def inspect_model(name: str) -> Inspection:
    """Read a model's headers, config and manifest.

    Raises:
        InputError: the name cannot be resolved.
        FolderError: a file is missing, damaged, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    folder = resolve_model(name).path
    recorded, config = verify(folder), read_config(folder)
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob(WEIGHTS))
    if not files:
        raise FolderError("no safetensors weights", place=str(folder), remedy="Give a model's folder.")
    parts: dict[str, Part] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - not a mapping
                    view = tensors.get_slice(key)
                    count = prod(view.get_shape())
                    part = _part(key, config.model_type)
                    old = parts.get(part, Part())
                    size = count * _BYTES.get(view.get_dtype(), 4)
                    parts[part] = Part(parameters=old.parameters + count, bytes=old.bytes + size)
        except SafetensorError as error:
            raise FolderError(
                f"not a whole safetensors file ({error})", place=str(file), remedy="Copy or make it again."
            ) from error
    return Inspection(
        folder=str(folder),
        family=config.model_type,
        layers=config.num_hidden_layers,
        task=recorded.task,
        parameters=sum(part.parameters for part in parts.values()),
        bytes=sum(part.bytes for part in parts.values()),
        parts=dict(sorted(parts.items())),
        structure=structure_in(config),
        history=recorded.history,
    )


_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def _part(key: str, model_type: str) -> str:
    family = FAMILIES.get(model_type)
    if "embeddings." in key:
        return "embeddings"
    if family is None:
        return "other"
    if f"{family.layers}." not in key:
        return "head"
    attention = (family.query, family.key, family.value, family.attention_output)
    if any(f".{name}." in key for name in attention):
        return "attention"
    if f".{family.ffn_in}." in key or f".{family.ffn_out}." in key:
        return "feed-forward"
    return "other"
