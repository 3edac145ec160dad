"""An ONNX file in OpenVINO, on the processor. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
from numpy.typing import NDArray

from compress.benchmark.engines import INPUTS, Inputs, answer_in, asked_for, timed, unknown_input

_TYPES = {openvino.Type.i64: np.int64, openvino.Type.i32: np.int32}


class OpenVinoEngine:
    """Runs a graph whose inputs are ids, masks and segments of shape (batch, length).

    Args:
        file: the ONNX file; external data lies beside it.
        threads: of one call; there is one stream.
        precision: of float products. OpenVINO's own default is bfloat16 where the processor has it.

    Raises:
        InputError: the graph needs an input that a text encoder does not have.
    """

    def __init__(self, file: Path, threads: int, precision: Literal["f32", "bf16"]) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
        }
        model = openvino.Core().compile_model(str(file), "CPU", settings)
        self.types = {}
        for entry in model.inputs:
            name, kind = entry.get_any_name(), entry.get_element_type()
            if name not in INPUTS or kind not in _TYPES:
                raise unknown_input(file, name, str(kind))
            self.types[name] = _TYPES[kind]
        self.request = model.create_infer_request()

    def bind(self, inputs: Inputs) -> Callable[[], int]:
        """See `Engine.bind`."""
        feeds = asked_for(inputs, self.types)
        return timed(lambda: self.request.infer(feeds))

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """See `Engine.predict`."""
        self.request.infer(asked_for(inputs, self.types))
        outputs = self.request.model_outputs
        return answer_in(
            {entry.get_any_name(): self.request.get_tensor(entry).data.copy() for entry in outputs}
        )
