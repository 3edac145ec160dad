"""What is benched: model folders, their files, sizes and limits."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.benchmark.config import Runtime

ONNX_FILES = ("onnx/model_quantized.onnx", "onnx/model.onnx")
_TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


@dataclass(frozen=True)
class Target:
    """A model folder, the name it has in the report, and where it runs (None: in every runtime asked for)."""

    name: str
    folder: Path
    runtimes: tuple[Runtime, ...] | None = None


@dataclass(frozen=True)
class Entry:
    """One model in one runtime. A bench compares entries; the first is the reference."""

    target: Target
    runtime: Runtime

    def __str__(self) -> str:
        return f"{self.target.name} ({self.runtime})"


def onnx_file(folder: Path) -> Path | None:
    """Return the folder's ONNX file, the quantized one where both are there."""
    return next((folder / name for name in ONNX_FILES if (folder / name).is_file()), None)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers would read, whole or in shards."""
    whole = [folder / name for name in ("compressed.safetensors", "model.safetensors")]
    present = next(([path] for path in whole if path.is_file()), [])
    return present or sorted(folder.glob("model-*.safetensors"))


def needed_files(folder: Path, runtime: Runtime, model: Path | None) -> list[Path]:
    """Return what must be shipped to run the folder in `runtime`.

    Args:
        folder: the model folder.
        runtime: torch needs the weights, the others the graph with its external data; all the config and the
            tokenizer.
        model: the ONNX file that is benched.
    """
    if runtime != "torch" and model is not None:
        weights = sorted(model.parent.glob(f"{model.name}*"))  # model.onnx, model.onnx_data, model.onnx.data
    else:
        weights = [*weight_files(folder), *folder.glob("model.safetensors.index.json")]
    shared = [folder / name for name in ("config.json", *_TOKENIZER_FILES)]
    return weights + [path for path in shared if path.is_file()]


def count_parameters(folder: Path) -> int | None:
    """Count the numbers in the folder's safetensors headers; see `report.Row.parameters`."""
    tensors: dict[str, Any] = {}
    for path in weight_files(folder):
        with path.open("rb") as file:
            tensors |= json.loads(file.read(int.from_bytes(file.read(8), "little")))
    tensors.pop("__metadata__", None)
    coded = {name.rpartition(".")[0] for name, tensor in tensors.items() if tensor["dtype"] == "I8"}
    counts = [
        math.prod(tensor["shape"])
        for name, tensor in tensors.items()
        if tensor["dtype"].startswith(("F", "BF", "I8", "U8"))
        and not (name.endswith(".scale") and name.rpartition(".")[0] in coded)
    ]
    return sum(counts) if tensors else None
