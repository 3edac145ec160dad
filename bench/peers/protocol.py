"""What every method of the no-retraining suite does around its own code, so that all are measured alike.

A method is one script, run by `python SCRIPT JOB.json` in an environment that may hold nothing but torch,
transformers and the method's own package: this file imports no more. The job names a fine-tuned folder, tokenized
rows to calibrate on and rows to answer; the script compresses, answers, saves, and tries in a fresh process
whether plain `from_pretrained` gives the same answers again. It leaves `logits.npy` and `facts.json`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, set_seed

BATCH = 32  # examples a forward pass, in calibration as in answering
RELOADED_ROWS = 64  # test rows that a reloaded model has to answer as before


Kind = TypeVar("Kind")


def read_job(kind: type[Kind], path: Path) -> Kind:
    """Read the json of a dataclass, in which a `Path` is a string."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    kinds: dict[str, Any] = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: Path(value) if kinds[name] == "Path" else value for name, value in stored.items()})


@dataclass(frozen=True)
class Job:
    """One cell of the table.

    Attributes:
        model: folder of the fine-tuned model.
        calibration: jsonl of tokenized rows with their `label`; all that a method may look at.
        test: jsonl of tokenized rows.
        out: where the results go.
        variant: which of the script's methods.
        share: of the weights of all layers' linear modules, the share to remove (pruning) or to keep at
            most (factorization); 0 where the method takes none.
        seed: of everything random.
    """

    model: Path
    calibration: Path
    test: Path
    out: Path
    variant: str
    share: float
    seed: int

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what the suite wrote."""
        return read_job(cls, path)

    def calibration_batches(self, model: PreTrainedModel) -> list[tuple[dict[str, Tensor], Tensor]]:
        """Return (padded batch, labels (examples,)) in the order of the file."""
        rows = read_rows(self.calibration)
        chunks = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        return [
            (pad(chunk, model.config.pad_token_id), torch.tensor([row["label"] for row in chunk]))
            for chunk in chunks
        ]


Compress = Callable[[PreTrainedModel, Job], PreTrainedModel]
Save = Callable[[PreTrainedModel, Path], None]


def run(
    compress: Compress,
    save: Save | None = None,
    load: Callable[[Path], PreTrainedModel] | None = None,
    needs: str = "",
) -> None:
    """Do the job that the command line names.

    Args:
        compress: the method: changes the model or returns another. Only this is timed.
        save: the method's own way to a folder; None: `save_pretrained`.
        load: how the method takes a fine-tuned folder; None: plain `from_pretrained`.
        needs: a module that a reloading process has to import first, as the method's manual says.
    """
    job = Job.read(Path(sys.argv[1]))
    set_seed(job.seed)
    model = (load or plain_load)(job.model).eval()
    before = layer_weights(model)
    start, start_cpu = time.perf_counter(), time.process_time()
    model = compress(model, job).eval()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    np.save(job.out / "logits.npy", answers(model, read_rows(job.test)))
    facts = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,  # on a machine that others use too, the one to compare
        "kept": layer_weights(model) / before,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "reload": _reload(model, save, job, needs),
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }
    (job.out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def plain_load(folder: Path) -> PreTrainedModel:
    """Load as anyone would."""
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    return model


def layer_matrices(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear modules of all transformer layers by name: query, key, value, output and both of the FFN.

    A factorized one is two. Embeddings, pooler and head are not in a layer and are left out.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layer." in f".{name}."
    }


def layer_weights(model: nn.Module) -> int:
    """Count the weights of `layer_matrices`, biases left out."""
    return sum(module.weight.numel() for module in layer_matrices(model).values())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read rows: the model's inputs as lists of ints, `label`, and `text` for a method with its own tokenizer."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pad(rows: list[dict[str, Any]], pad_token: int) -> dict[str, Tensor]:
    """Pad on the right to the longest row; what is not `input_ids` is padded with 0."""
    longest = max(len(row["input_ids"]) for row in rows)
    return {
        name: torch.tensor(
            [
                row[name] + [pad_token if name == "input_ids" else 0] * (longest - len(row[name]))
                for row in rows
            ]
        )
        for name in rows[0]
        if name not in ("label", "text")
    }


@torch.no_grad()
def answers(model: PreTrainedModel, rows: list[dict[str, Any]]) -> np.ndarray:
    """Return logits (rows, labels), float32, in the order of the rows."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    chunks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    parts = [model(**pad([rows[i] for i in chunk], model.config.pad_token_id)).logits for chunk in chunks]
    out = torch.cat(parts).float()
    out[order] = out.clone()
    return out.numpy()


def units(model: PreTrainedModel, share: float) -> tuple[int, int]:
    """Return heads and neurons to remove per layer so that `share` of the layers' weights go.

    Heads can only go whole: the nearest number of them is taken and neurons make up the rest. A head has
    4 × width × head size weights, a neuron 2 × width.
    """
    config = model.config
    heads = round(share * config.num_attention_heads)
    width, inner = config.hidden_size, config.intermediate_size
    head_size = width // config.num_attention_heads
    wanted = share * (4 * width * width + 2 * width * inner) - heads * 4 * width * head_size
    return heads, round(wanted / (2 * width))


def _reload(model: PreTrainedModel, save: Save | None, job: Job, needs: str) -> str:
    """Return `same` where a fresh process answers as before, else what went wrong in one line."""
    folder, again = job.out / "saved", job.out / "reloaded.npy"
    try:
        save(model, folder) if save else model.save_pretrained(folder)
    except Exception as error:  # whatever a peer raises is the answer
        return f"not saved: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    command = [sys.executable, __file__, str(folder), str(job.test), str(again), needs]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return f"not loaded: {done.stderr.strip().splitlines()[-1]}"
    difference = float(np.abs(np.load(again) - answers(model, read_rows(job.test)[:RELOADED_ROWS])).max())
    return "same" if difference == 0 else f"loaded, but logits differ by up to {difference:.2g}"


def _answer_reloaded(folder: str, rows: str, out: str, needs: str) -> None:
    if needs:
        importlib.import_module(needs)
    model = plain_load(Path(folder)).eval()
    np.save(out, answers(model, read_rows(Path(rows))[:RELOADED_ROWS]))


if __name__ == "__main__":
    _answer_reloaded(*sys.argv[1:])
