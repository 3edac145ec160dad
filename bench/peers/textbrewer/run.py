"""TextBrewer 0.2.1 (Yang et al. 2020), in the last transformers that it works with.

Variants: `general` is its GeneralDistiller with batches padded to their longest row; `general-padded` pads every row
to the maximum, as its examples do; `basic-cached` is its BasicDistiller, which can keep the teacher's logits in memory.
Its loss on soft targets has no T², which is given with the weight.
"""

from __future__ import annotations

import shutil
from typing import Any

from distilling import CLIP, KD_WEIGHT, TEMPERATURE, Job, models, run
from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig
from transformers import PreTrainedModel


def train(job: Job) -> PreTrainedModel:
    """Train by the distiller's own loop."""
    teacher, student = models(job)
    cached = job.variant == "basic-cached"
    batches = job.batches(
        student.config.pad_token_id, job.pad_to if job.variant == "general-padded" else None
    )
    optimizer, schedule = job.optimizer(student, job.epochs * len(batches))
    folder = job.out / "checkpoints"
    kind = BasicDistiller if cached else GeneralDistiller
    distiller = kind(
        TrainingConfig(output_dir=str(folder), device="cpu"),
        DistillationConfig(
            temperature=TEMPERATURE,
            kd_loss_weight=KD_WEIGHT * TEMPERATURE**2,
            hard_label_weight=1 - KD_WEIGHT,
            kd_loss_type="ce",
            is_caching_logits=cached,
        ),
        teacher,
        student,
        _logits,
        _logits_and_loss,
    )
    with distiller:
        distiller.train(
            optimizer, batches, job.epochs, scheduler_class=schedule, scheduler_args={}, max_grad_norm=CLIP
        )
    shutil.rmtree(folder)
    return student


def _logits(batch: dict[str, Any], outputs: Any) -> dict[str, Any]:
    return {"logits": outputs.logits}


def _logits_and_loss(batch: dict[str, Any], outputs: Any) -> dict[str, Any]:
    return {"logits": outputs.logits, "losses": outputs.loss}


if __name__ == "__main__":
    run(train)
