"""An ONNX file in ONNX Runtime, with the session's default optimizations. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compress.benchmark.engines import INPUTS, Inputs, answer_in, asked_for, timed, unknown_input

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
            if entry.name not in INPUTS or entry.type not in _TYPES:
                raise unknown_input(file, entry.name, entry.type)
            self.types[entry.name] = _TYPES[entry.type]

    def bind(self, inputs: Inputs) -> Callable[[], int]:
        """See `Engine.bind`; on CUDA inputs and outputs stay on the device."""
        feeds = asked_for(inputs, self.types)
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
        names = [entry.name for entry in self.session.get_outputs()]
        answers = self.session.run(names, asked_for(inputs, self.types))
        return answer_in(dict(zip(names, answers, strict=True)))
