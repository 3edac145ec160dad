"""What ONNX Runtime's users do: torch's own export with its defaults, then ONNX Runtime's own quantizers.

`python run.py JOB.json`; the job names the model folder, tokenized calibration rows, the variant and the file to
write. Variant "export" writes the float file; the others quantize the file that the job's `float` names.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from transformers import AutoModelForSequenceClassification

import compress  # noqa: F401  # pruned models open

NAMES = ("input_ids", "attention_mask", "token_type_ids")
DYNAMIC: dict[str, dict[str, Any]] = {
    "dynamic": {"weight_type": QuantType.QInt8},
    "dynamic-per-channel": {"weight_type": QuantType.QInt8, "per_channel": True},
    "dynamic-quint8": {"weight_type": QuantType.QUInt8},
}


class Rows(CalibrationDataReader):
    """Tokenized rows, one at a time and without padding: the histograms do not leave it out."""

    def __init__(self, path: Path) -> None:
        self.rows: Iterator[str] = iter(path.read_text(encoding="utf-8").splitlines())

    def get_next(self) -> dict[str, Any] | None:
        """Return the next row's inputs, None at the end."""
        line = next(self.rows, None)
        if line is None:
            return None
        row = json.loads(line)
        return {name: np.array([row[name]], np.int64) for name in NAMES if name in row}


def main(job: dict[str, str]) -> None:
    """Write the file that the job asks for."""
    out, variant = Path(job["out"]), job["variant"]
    if variant == "export":
        _export(Path(job["model"]), Path(job["calibration"]), out)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        model = onnx.load(job["float"])
        del model.graph.value_info[:]  # its shapes stop the quantizer (ShapeInferenceError)
        onnx.save(model, source)
        if variant in DYNAMIC:
            quantize_dynamic(source, out, **DYNAMIC[variant])
        else:
            quantize_static(
                source,
                out,
                Rows(Path(job["calibration"])),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
            )


def _export(folder: Path, calibration: Path, out: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    row = json.loads(calibration.read_text(encoding="utf-8").splitlines()[0])
    inputs = {name: torch.tensor([row[name]] * 2) for name in NAMES if name in row}
    free = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        model,
        (),
        kwargs=inputs,
        dynamic_shapes={name: {0: free, 1: free} for name in inputs},
        input_names=list(inputs),
        output_names=["logits"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(out))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
