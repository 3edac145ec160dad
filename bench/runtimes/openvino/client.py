"""Answer texts with OpenVINO: `client.py BUNDLE TEXTS.json ANSWERS.json PRECISION`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import openvino
from tokenizers import Tokenizer


def main(bundle: Path, texts: list[str], out: Path, precision: str) -> None:
    """Write the probabilities of each text, one text a call, one thread."""
    settings = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(bundle / settings["tokenizer"]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings["max_length"])
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    options |= {"INFERENCE_PRECISION_HINT": precision}
    model = openvino.Core().compile_model(str(bundle / settings["model"]), "CPU", options)
    names = [entry.get_any_name() for entry in model.inputs]
    request = model.create_infer_request()
    rows, start = [], time.perf_counter()
    for text in texts:
        row = tokenizer.encode(text)
        values = {
            "input_ids": row.ids,
            "attention_mask": row.attention_mask,
            "token_type_ids": row.type_ids,
        }
        answers = request.infer({name: np.array([values[name]], dtype=np.int64) for name in names})
        logits = np.array(next(iter(answers.values()))[0], dtype=np.float64)
        powers = np.exp(logits - logits.max())
        rows.append((powers / powers.sum()).tolist())
    seconds = time.perf_counter() - start
    version = openvino.__version__.partition("-")[0]
    out.write_text(json.dumps({"version": version, "rows": rows, "seconds": seconds}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_bytes()), Path(sys.argv[3]), sys.argv[4])
