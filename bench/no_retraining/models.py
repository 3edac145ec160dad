"""The fine-tuned models of the suite and the rows that every method sees."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from numpy.typing import NDArray

from compress.artifact import Artifact, load
from compress.data import load_data
from compress.display import say
from compress.tasks.inputs import encode

ROOT = Path(__file__).parents[2]
CALIBRATION = 256  # training examples that a method may look at
SEED = 0


@dataclass(frozen=True)
class DenseModel:
    """A packaged model fine-tuned on packaged data, and with which options."""

    model: str
    data: str
    epochs: int
    learning_rate: float
    max_length: int
    batch_size: int = 32
    dropout: float = 0

    def arguments(self, out: Path) -> list[str]:
        """Return what `cli.py` trains it with."""
        options = {
            "--model": self.model,
            "--data": self.data,
            "--epochs": self.epochs,
            "--learning-rate": self.learning_rate,
            "--batch-size": self.batch_size,
            "--max-length": self.max_length,
            "--dropout": self.dropout,
            "--seed": SEED,
            "--out": out,
        }
        return ["finetune", *(str(part) for option in options.items() for part in option)]


MODELS = {
    "l6-mr": DenseModel("minilm-l6", "movie-reviews", epochs=3, learning_rate=1e-4, max_length=64),
    "l6-r8": DenseModel("minilm-l6", "reuters-r8", epochs=2, learning_rate=5e-5, max_length=128),
    "mpnet-mr": DenseModel("mpnet-base", "movie-reviews", epochs=1, learning_rate=3e-5, max_length=64),
}


@dataclass(frozen=True)
class Subject:
    """A fine-tuned model on disk with its rows.

    Attributes:
        folder: the model.
        calibration, test: jsonl files of tokenized rows, see `bench/peers/protocol.py`.
        labels: (test rows,) the right classes.
    """

    folder: Path
    calibration: Path
    test: Path
    labels: NDArray[np.int64]


def subject(name: str, work: Path) -> Subject:
    """Return the fine-tuned model `name` with its rows, made where `work` has none yet."""
    dense, folder = MODELS[name], work / "dense" / name
    if not (folder / "manifest.json").exists():
        say(f"fine-tuning {dense.model} on {dense.data}")
        subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *dense.arguments(folder)], check=True, stdout=sys.stderr
        )
    return rows_of(name, folder, work)


def rows_of(name: str, folder: Path, work: Path) -> Subject:
    """Return a fine-tuned model with the rows of the data that it was trained on, written below `work`."""
    artifact = load(folder)
    assert artifact.manifest.data is not None
    data = load_data(artifact.manifest.data).aligned(artifact.task)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(SEED))
    drawn = {"calibration": data.train.select(order[:CALIBRATION].tolist()), "test": data.test}
    paths = {split: work / "rows" / f"{name}-{split}.jsonl" for split in drawn}
    for split, rows in drawn.items():
        write_rows(paths[split], rows, artifact)
    return Subject(folder, paths["calibration"], paths["test"], np.asarray(data.test["label"]))


def write_rows(file: Path, rows: datasets.Dataset, artifact: Artifact) -> None:
    """Write tokenized rows with their `label` and `text`, a JSON object a line."""
    inputs = encode(rows, artifact.tokenizer, artifact.task)
    lines = [
        json.dumps(dict(row) | {"label": label, "text": text})
        for row, label, text in zip(inputs, rows["label"], rows["text"], strict=True)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
