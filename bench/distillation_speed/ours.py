"""This toolkit's distillation, as one method of the suite; the cache of the teacher's answers is empty at the start.

Variants: `default`; `float32`; `every-step` and `every-step-float32`, where the teacher answers during training.
"""

from __future__ import annotations

import os
from pathlib import Path

import datasets
from distilling import KD_WEIGHT, TEMPERATURE, Job, run
from protocol import read_rows
from transformers import PreTrainedModel

import compress.training.run  # noqa: F401  (the pass imports it late; the peers' imports are not timed either)
from compress.artifact import load
from compress.data import TextData
from compress.passes.base import Context
from compress.passes.distill import Distill

VARIANTS = {
    "default": {},
    "float32": {"bf16": False},
    "every-step": {"cache": False},
    "every-step-float32": {"cache": False, "bf16": False},
}


def train(job: Job) -> PreTrainedModel:
    """Distil by the pass; it also scores the validation rows after each epoch and keeps the best."""
    os.environ["COMPRESS_CACHE"] = str(job.out / "cache")
    teacher = load(job.teacher)
    step = Distill.model_validate(
        {
            "student": str(job.student),
            "temperature": TEMPERATURE,
            "kd_weight": KD_WEIGHT,
            "epochs": job.epochs,
            "batch_size": job.batch_size,
            "learning_rate": job.learning_rate,
            **VARIANTS[job.variant],
        }
    )
    train, validation, test = map(_split, (job.train, job.validation, job.test))
    data = TextData("rows", train, validation, test, teacher.task.labels, False, "rows", ())
    context = Context(seed=job.seed, workdir=job.out / "work", data=data, input_folder=job.teacher)
    context.workdir.mkdir()
    return step.apply(teacher, context).model


def _split(file: Path) -> datasets.Dataset:
    rows = read_rows(file)
    return datasets.Dataset.from_dict({name: [row[name] for row in rows] for name in ("text", "label")})


if __name__ == "__main__":
    run(train)
