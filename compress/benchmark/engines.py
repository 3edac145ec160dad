"""What a worker can do with a model, and what the runtimes share. Imports no runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.errors import InputError

Inputs = Mapping[str, NDArray[Any]]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Engine(Protocol):
    """A loaded model in one runtime."""

    def bind(self, inputs: Inputs) -> Callable[[], int]:
        """Place inputs, each (batch, length), on the device; return what runs once and gives nanoseconds."""

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Return the model's answer.

        Its first output, which is logits (batch, labels) or, for tokens, (batch, length, labels); starts and ends
        of spans side by side, (batch, length, 2).
        """


def open_engine(runtime: str, path: Path, threads: int, device: str) -> Engine:
    """Import the runtime and load the model: a folder for torch, the ONNX file for the others."""
    if runtime == "torch":
        from compress.benchmark.torch_engine import TorchEngine

        return TorchEngine(path, threads, device)
    if runtime.startswith("openvino"):
        from compress.benchmark.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(path, threads, "bf16" if runtime.endswith("-bf16") else "f32")
    from compress.benchmark.onnx_engine import OnnxEngine

    return OnnxEngine(path, threads, device)


def timed(run: Callable[[], object]) -> Callable[[], int]:
    """Return a function that calls `run` and gives the nanoseconds it took on this processor's clock."""

    def once() -> int:
        start = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - start

    return once


SPANS = ("start_logits", "end_logits")


def answer_in(outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return what `Engine.predict` says, of outputs by name in the model's order."""
    if set(SPANS) <= set(outputs):
        return np.stack([outputs[name] for name in SPANS], -1)
    return next(iter(outputs.values()))


def asked_for(inputs: Inputs, types: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return what a graph asks for, in its types; segments that the tokenizer does not make are all 0."""
    zeros = np.zeros_like(inputs["input_ids"])
    return {name: inputs.get(name, zeros).astype(kind) for name, kind in types.items()}


def unknown_input(file: Path, name: str, kind: str) -> InputError:
    """Return the error of a graph whose input is none of a text encoder's."""
    return InputError(
        f"the graph asks for the input {name!r} of {kind}",
        place=str(file),
        remedy="A bench feeds input_ids, attention_mask and token_type_ids, as int32 or int64.",
    )
