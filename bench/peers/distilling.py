"""What every method of the distillation-speed suite does around its own training, so that all are measured alike.

A method is one script, run by `python SCRIPT JOB.json` in an environment that may hold nothing but torch, transformers
and the method's own package: this file imports no more. The job names a fine-tuned teacher, the student to begin with,
and tokenized rows; the script trains and answers. It leaves `logits.npy` and `facts.json`.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import answers, pad, plain_load, read_job, read_rows
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup, set_seed

WARMUP, WEIGHT_DECAY, CLIP = 0.1, 0.01, 1.0
TEMPERATURE, KD_WEIGHT = 2.0, 0.5


@dataclass(frozen=True)
class Job:
    """One run of one method.

    Attributes:
        teacher, student: folders of models with a head for the same task; the student is where training begins.
        train, validation, test: jsonl files of tokenized rows with `label` and `text`.
        out: where the results go.
        variant: which of the script's methods.
        epochs, batch_size, learning_rate: alike for every method. So are T = 2, equal weights for the teacher's term
            (with its T²) and the labels', AdamW with decay 0.01, a linear schedule with a tenth of warm-up, and
            gradients clipped at 1.
        pad_to: tokens that a loop pads every row to which pads to a maximum.
        seed: of everything random.
    """

    teacher: Path
    student: Path
    train: Path
    validation: Path
    test: Path
    out: Path
    variant: str
    epochs: int
    batch_size: int
    learning_rate: float
    pad_to: int
    seed: int

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what the suite wrote."""
        return read_job(cls, path)

    def batches(self, pad_token: int, pad_to: int | None) -> DataLoader[dict[str, Tensor]]:
        """Return the training rows in random order, in padded batches with `labels`.

        Args:
            pad_token: the tokenizer's.
            pad_to: tokens of every row; None pads to the longest of the batch.
        """

        def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
            batch = pad(rows, pad_token)
            if pad_to is not None:
                for name, values in batch.items():
                    filler = pad_token if name == "input_ids" else 0
                    missing = pad_to - values.shape[1]
                    batch[name] = torch.nn.functional.pad(values, (0, missing), value=filler)
            return batch | {"labels": torch.tensor([row["label"] for row in rows])}

        rows: Any = read_rows(self.train)
        return DataLoader(rows, self.batch_size, shuffle=True, collate_fn=collate)

    def optimizer(self, student: PreTrainedModel, steps: int) -> tuple[torch.optim.Optimizer, Any]:
        """Return AdamW and the function that makes its schedule over so many steps."""
        optimizer = torch.optim.AdamW(student.parameters(), lr=self.learning_rate, weight_decay=WEIGHT_DECAY)
        return optimizer, lambda optimizer: get_linear_schedule_with_warmup(
            optimizer, int(WARMUP * steps), steps
        )


def run(train: Callable[[Job], PreTrainedModel]) -> None:
    """Do the job that the command line names.

    Args:
        train: returns the trained student. All of it is timed: reading, the teacher's answers, training.
    """
    job = Job.read(Path(sys.argv[1]))
    set_seed(job.seed)
    start, start_cpu = time.perf_counter(), time.process_time()
    student = train(job)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    np.save(job.out / "logits.npy", answers(student.eval(), read_rows(job.test)))
    facts = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }
    (job.out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def models(job: Job) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return (teacher, student) as anyone would load them."""
    return plain_load(job.teacher).eval(), plain_load(job.student).train()
