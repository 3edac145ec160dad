"""An ONNX file in ONNX Runtime, with the session's default optimizations. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compress.benchmark.engines import Inputs, timed
from compress.errors import InputError

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxEngine:
    """Runs a graph whose inputs are ids, masks and segments of shape (batch, length).

    Args:
        file: the ONNX file; external data lies beside it.
        threads: of one operator; operators run one after the other.
        device: `cpu` or `cuda`.

    Raises:
        InputError: the graph needs an input that a text encoder does not have.
    """

    def __init__(self, file: Path, threads: int, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = ["CUDAExecutionProvider"] if device == "cuda" else []
        self.device = device
        self.session = onnxruntime.InferenceSession(
            str(file), options, providers=[*providers, "CPUExecutionProvider"]
        )
        self.types = {}
        for entry in self.session.get_inputs():
            if entry.name not in _INPUTS or entry.type not in _TYPES:
                raise InputError(
                    f"the graph asks for the input {entry.name!r} of {entry.type}",
                    place=str(file),
                    remedy="A bench feeds input_ids, attention_mask and token_type_ids, as int32 or int64.",
                )
            self.types[entry.name] = _TYPES[entry.type]

    def bind(self, inputs: Inputs) -> Callable[[], int]:
        """See `Engine.bind`; on CUDA inputs and outputs stay on the device."""
        feeds = self._feeds(inputs)
        if self.device == "cpu":
            return timed(lambda: self.session.run(None, feeds))
        binding = self.session.io_binding()
        for name, values in feeds.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
        for entry in self.session.get_outputs():
            binding.bind_output(entry.name, "cuda")
        binding.synchronize_inputs()

        def run() -> None:
            self.session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return timed(run)

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """See `Engine.predict`."""
        answer: NDArray[Any] = self.session.run(None, self._feeds(inputs))[0]
        return answer

    def _feeds(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Give the graph what it asks for; segments that the tokenizer does not make are all 0."""
        zeros = np.zeros_like(inputs["input_ids"])
        return {name: inputs.get(name, zeros).astype(kind) for name, kind in self.types.items()}
