"""Answer texts with optimum's own class for ONNX files: `client.py BUNDLE TEXTS.json ANSWERS.json`."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer


def main(bundle: Path, texts: list[str], out: Path) -> None:
    """Write the probabilities of each text, one text a call, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = ORTModelForSequenceClassification.from_pretrained(bundle, session_options=options)
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    rows, start = [], time.perf_counter()
    for text in texts:
        encoded = tokenizer(text, truncation=True, return_tensors="pt")
        rows.append(torch.softmax(model(**encoded).logits[0].double(), 0).tolist())
    seconds = time.perf_counter() - start
    answer = {"version": version("optimum-onnx"), "rows": rows, "seconds": seconds}
    out.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_bytes()), Path(sys.argv[3]))
