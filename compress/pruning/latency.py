"""What a model's layers cost in time on this machine, by the heads and neurons they have left."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.architectures.blocks import Attention, FeedForward, blocks
from compress.display import say

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact

_FORMAT = 1  # of a cached table; raised when the way of measuring changes, so that old tables are left alone


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of one attention or one feed-forward part by the units it has left, and of all the rest.

    Between the points costs are linear, outside them constant. What a layer costs whatever is left in it stands
    with its attention.

    Attributes:
        attention: (units, milliseconds) of one attention with its projections, both ascending.
        feed_forward: the same of one feed-forward part.
        rest: milliseconds of embeddings, head and the runtime's own work, whatever the layers.
    """

    attention: tuple[tuple[int, float], ...]
    feed_forward: tuple[tuple[int, float], ...]
    rest: float

    def __post_init__(self) -> None:
        for points in (self.attention, self.feed_forward):
            rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(points))
            if not (points and rising and points[0][1] >= 0 and self.rest >= 0):
                raise ValueError(
                    "a latency table's units must rise, and its times must not fall or be negative"
                )

    def cost(self, part: Attention | FeedForward, units: int) -> float:
        """Return the milliseconds of a part of `blocks(model)` that has `units` left."""
        points = self.attention if isinstance(part, Attention) else self.feed_forward
        known, times = zip(*points, strict=True)
        return float(np.interp(float(units), known, times))

    def total(self, model: PreTrainedModel) -> float:
        """Return the milliseconds of a whole model as it is now."""
        total = self.rest
        for block in blocks(model):
            total += sum(self.cost(part, part.units) for part in block.attentions)
            total += sum(self.cost(part, part.units) for part in block.feed_forwards)
        return total


def measure_latency(
    artifact: Artifact, batch_size: int, sequence_length: int, threads: int = 1
) -> LatencyTable:
    """Time a model's parts as float32 ONNX in ONNX Runtime, on this machine's processor, as a bench does.

    The first time takes about a minute; a cached table is used as long as model sizes, shape, threads,
    processor and ONNX Runtime are the same.

    Args:
        artifact: its model is not changed. The weights' values do not matter.
        batch_size: examples in one call.
        sequence_length: tokens in each example, all of them full.
        threads: of ONNX Runtime.

    Raises:
        InputError: the model cannot be exported, or has not so many positions.
    """
    from pydantic import TypeAdapter, ValidationError

    from compress.pruning.latency_grid import measure

    adapter = TypeAdapter(LatencyTable)
    file = _cache_file(artifact.model, batch_size, sequence_length, threads)
    try:
        return adapter.validate_json(file.read_bytes())
    except (OSError, ValidationError):  # none yet, or a damaged one
        pass
    table = LatencyTable(*measure(artifact, batch_size, sequence_length, threads))
    try:
        _write(file, adapter.dump_json(table))
    except OSError as error:
        say(f"The latencies are not cached: {file.parent} cannot be written ({error.strerror})")
    return table


def _cache_file(model: PreTrainedModel, batch_size: int, sequence_length: int, threads: int) -> Path:
    """Name the file after all that decides the time: the model's sizes, the shape, the machine."""
    from compress.assets.cache import cache_root
    from compress.hardware import fingerprint
    from compress.manifest import hash_json

    machine = fingerprint()
    return (
        cache_root()
        / "latency"
        / (
            hash_json(
                {
                    "format": _FORMAT,
                    "model": type(model).__name__,
                    "layers": getattr(
                        model.config, "num_hidden_layers", None
                    ),  # shared ones are run so often
                    "sizes": {name: list(parameter.shape) for name, parameter in model.named_parameters()},
                    "shape": [batch_size, sequence_length, threads],
                    "processor": [machine["processor"], machine["cpu_flags"]],
                    "onnxruntime": machine["versions"].get("onnxruntime"),
                }
            )
            + ".json"
        )
    )


def _write(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}.tmp-")
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(content)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)
