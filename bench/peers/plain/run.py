"""A plain loop: the teacher answers at every step, float32, every row padded to the maximum."""

from __future__ import annotations

import torch
from distilling import CLIP, KD_WEIGHT, TEMPERATURE, Job, models, run
from torch.nn.functional import kl_div, log_softmax
from transformers import PreTrainedModel


def train(job: Job) -> PreTrainedModel:
    """Train as a tutorial would."""
    teacher, student = models(job)
    batches = job.batches(student.config.pad_token_id, job.pad_to)
    optimizer, schedule = job.optimizer(student, job.epochs * len(batches))
    scheduler = schedule(optimizer)
    for _ in range(job.epochs):
        for batch in batches:
            with torch.no_grad():
                target = log_softmax(teacher(**batch).logits / TEMPERATURE, -1)
            outputs = student(**batch)
            answer = log_softmax(outputs.logits / TEMPERATURE, -1)
            soft = TEMPERATURE**2 * kl_div(answer, target, reduction="batchmean", log_target=True)
            loss = KD_WEIGHT * soft + (1 - KD_WEIGHT) * outputs.loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return student


if __name__ == "__main__":
    run(train)
