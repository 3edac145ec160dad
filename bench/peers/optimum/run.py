"""optimum-onnx: its own export, then its quantizer with the configuration that it has for AVX512-VNNI."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig


def main(job: dict[str, str]) -> None:
    """Write the file that the job asks for."""
    model = ORTModelForSequenceClassification.from_pretrained(job["model"], export=True)
    with tempfile.TemporaryDirectory() as folder:
        quantizer = ORTQuantizer.from_pretrained(model)
        settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
        quantizer.quantize(save_dir=folder, quantization_config=settings)
        (made,) = Path(folder).glob("*.onnx")
        shutil.copyfile(made, job["out"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
