"""Tables of latencies on disk, so that a model's sizes are timed once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from compress.display import say

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FORMAT = 2  # of a cached table; raised when the way of measuring changes, so that old tables are left alone

Table = TypeVar("Table")


def cached(
    kind: type[Table], model: PreTrainedModel, shape: tuple[int, int, int], measure: Callable[[], Table]
) -> Table:
    """Return the table on disk for a model of these sizes on this machine; measure and keep it if there is none.

    Args:
        kind: the table's dataclass, which refuses impossible values by ValueError.
        model: its sizes count, not its weights.
        shape: examples in one call, tokens in each, threads.
        measure: makes the table.
    """
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    file = _cache_file(kind, model, shape)
    try:
        return adapter.validate_json(file.read_bytes())
    except (OSError, ValidationError):  # none yet, or a damaged one
        pass
    table = measure()
    try:
        _write(file, adapter.dump_json(table))
    except OSError as error:
        say(f"The latencies are not cached: {file.parent} cannot be written ({error.strerror})")
    return table


def _cache_file(kind: type, model: PreTrainedModel, shape: tuple[int, int, int]) -> Path:
    """Name the file after all that decides the table: its kind, the model's sizes, the shape, the machine."""
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
                    "table": kind.__name__,
                    "model": type(model).__name__,
                    "layers": getattr(
                        model.config, "num_hidden_layers", None
                    ),  # shared ones are run so often
                    "sizes": {name: list(parameter.shape) for name, parameter in model.named_parameters()},
                    "shape": list(shape),
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
