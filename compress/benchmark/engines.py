"""What a worker can do with a model, and what both runtimes share. Imports nothing but numpy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]


class Engine(Protocol):
    """A loaded model in one runtime."""

    def bind(self, inputs: Inputs) -> Callable[[], int]:
        """Place inputs, each (batch, length), on the device; return what runs once and gives nanoseconds."""

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Return the model's first output: logits (batch, labels) where it has a head."""


def open_engine(runtime: str, path: Path, threads: int, device: str) -> Engine:
    """Import the runtime and load the model: a folder for torch, the file for onnxruntime."""
    if runtime == "torch":
        from compress.benchmark.torch_engine import TorchEngine

        return TorchEngine(path, threads, device)
    from compress.benchmark.onnx_engine import OnnxEngine

    return OnnxEngine(path, threads, device)


def timed(run: Callable[[], object]) -> Callable[[], int]:
    """Return a function that calls `run` and gives the nanoseconds it took on this processor's clock."""

    def once() -> int:
        start = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - start

    return once
