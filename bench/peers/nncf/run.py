"""OpenVINO's quantizer: NNCF's post-training int8 with its settings for transformers, on the exported float file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def main(job: dict[str, str]) -> None:
    """Write the file that the job asks for."""
    rows = [json.loads(line) for line in Path(job["calibration"]).read_text(encoding="utf-8").splitlines()]

    def feed(row: dict[str, Any]) -> dict[str, Any]:
        return {name: np.array([row[name]], np.int64) for name in NAMES if name in row}

    quantized = nncf.quantize(
        onnx.load(job["float"]),
        nncf.Dataset(rows, feed),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(rows),
    )
    onnx.save(quantized, job["out"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
