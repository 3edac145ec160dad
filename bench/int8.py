"""Score int8 models on the test split, in torch and in ONNX Runtime on the exported file, and print one table.

    python -m bench.int8 runs/teacher runs/int8 runs/static

The first folder is the float model that the others come from. Those that were not exported are scored in torch alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compress.artifact import load
from compress.data import load_data
from compress.tasks.evaluate import predict
from compress.tasks.inputs import batches, encode


def main(folders: list[str]) -> None:
    """Print a row a model: accuracy in both runtimes, agreement with the first, agreement of the runtimes."""
    teacher = load(folders[0])
    assert teacher.manifest.data is not None
    split = load_data(teacher.manifest.data).aligned(teacher.task).test
    labels, encoded = np.asarray(split["label"]), encode(split, teacher.tokenizer, teacher.task)
    dense = np.asarray(predict(teacher.model, encoded, teacher.tokenizer, teacher.task))
    print("| model | torch | ONNX Runtime | agree with float | runtimes agree | largest logit difference |")
    print("|---|---:|---:|---:|---:|---:|")
    print(f"| {Path(folders[0]).name} | {_share(dense, labels)} | – | – | – | – |", flush=True)
    for folder in folders[1:]:
        artifact = load(folder)
        ours = np.asarray(predict(artifact.model, encoded, artifact.tokenizer, artifact.task))
        file = artifact.attachments.get("onnx/model_quantized.onnx")
        row = [Path(folder).name, _share(ours, labels), "–", _share(ours, dense.argmax(1)), "–", "–"]
        if file is not None:
            theirs = np.empty_like(ours)
            session = onnxruntime.InferenceSession(file)
            for rows, batch in batches(encoded, artifact.tokenizer, 32):
                (theirs[rows],) = session.run(None, {name: value.numpy() for name, value in batch.items()})
            row[2], row[3] = _share(theirs, labels), _share(theirs, dense.argmax(1))
            row[4:] = _share(ours, theirs.argmax(1)), f"{np.abs(ours - theirs).max():.2g}"
        print(f"| {' | '.join(row)} |", flush=True)


def _share(logits: NDArray[np.float32], wanted: NDArray[np.int64]) -> str:
    return f"{100 * (logits.argmax(1) == wanted).mean():.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
