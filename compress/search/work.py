"""Jobs, done: cut, shape, train briefly, train long. Each is a chain of passes whose steps stay on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from compress.artifact import load, read_manifest
from compress.display import say
from compress.distillation.soft import soft_loss
from compress.errors import CompressError
from compress.passes.base import Pass
from compress.passes.distill import Distill
from compress.pipeline import Step
from compress.search.halving import Job, Result
from compress.search.setting import Setting, learning_rate_of
from compress.tasks import Task
from compress.tasks.kind import Answers
from compress.tasks.ragged import Ragged


def training(setting: Setting, teacher: str, long: bool = False) -> Distill:
    """Return a training on the reference's answers.

    Args:
        setting: of the search.
        teacher: the reference: its folder, or its step in a recipe.
        long: whether it is the last one.
    """
    return Distill.model_validate({**_options(setting, long=long), "teacher": teacher})


def cutting(setting: Setting, layers: int) -> Distill:
    """Return the pass that makes the student of so many layers of the model that comes in."""
    return Distill.model_validate({**_options(setting, cut=True), "student": f"teacher:{layers}"})


def _options(setting: Setting, long: bool = False, cut: bool = False) -> dict[str, object]:
    return {
        "epochs": setting.options.epochs if long else 1,
        "batch_size": 32,
        "learning_rate": learning_rate_of(setting.whole.hidden, anew=cut),
        "dropout": 0,
        "kd_weight": 0.7,
        "unlabelled": setting.options.unlabelled if long else (),
    }


def passes_to(job: Job, setting: Setting, teacher: str) -> list[Pass]:
    """Return all passes from the reference to a job's result; none where it is the reference itself."""
    structure, whole = job.structure, setting.whole
    found: list[Pass] = [cutting(setting, structure.layers)] if structure.layers < whole.layers else []
    if job.rung == "cut":
        return found
    found += structure.passes(whole)
    if found and job.rung != "shape":
        found.append(training(setting, teacher))
    if found and job.rung == "long":
        found.append(training(setting, teacher, long=True))
    return found


def steps_to(job: Job, setting: Setting, out: Path) -> list[Step]:
    """Return the steps to a job's result; those that structures share lie in one folder."""
    passes = passes_to(job, setting, str(setting.reference.absolute()))
    steps = []
    for number, each in enumerate(passes, 1):
        shared = number == 1 and job.structure.layers < setting.whole.layers
        home = out / "cut" if shared else out / "candidates" / job.structure.slug
        name = f"{job.structure.layers}-layers" if shared else f"{number}-{each.name}"
        steps.append(Step(each, home / name))
    return steps


def folder_of(job: Job, setting: Setting, out: Path) -> Path:
    """Return where a job's result lies; the reference's folder where it is that."""
    steps = steps_to(job, setting, out)
    return steps[-1].folder if steps else setting.reference


def do(job: Job, setting: Setting, out: Path) -> Result:
    """Do a job and score what comes of it; an expected failure is a result too."""
    steps = steps_to(job, setting, out)
    if not steps:
        return Result(setting.score)
    say(f"{job.rung}: {job.structure.of(setting.whole)}")
    start = time.monotonic()
    try:
        folder = setting.run(setting.reference, steps, out / f".{job.structure.slug}.work")
        score = read_manifest(folder).history[-1].after[setting.task.main_metric]
        distance = _divergence(folder, setting) if job.rung == "shape" else 0.0
    except CompressError as error:
        return Result(seconds=time.monotonic() - start, error=str(error))
    return Result(score, distance, time.monotonic() - start)


def _divergence(folder: Path, setting: Setting) -> float:
    """Return how far a model's answers are from the reference's, on the first validation texts."""
    return distance_of(setting.task, _rows(setting.answers(load(folder))), _rows(setting.reference_answers))


def distance_of(task: Task, answers: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the distance of (N, L) answers from the reference's, as their task compares answers, at T = 1."""
    if len(answers) != len(reference):  # a vocabulary that splits words otherwise has other tokens
        return float("inf")
    kind: Literal["mse", "kl"] = "mse" if task.rules.compared == "places" else "kl"
    return float(soft_loss(task, kind, answers, reference, torch.empty(0), 1.0))


def _rows(answers: Answers) -> torch.Tensor:
    return torch.from_numpy(np.asarray(answers.values if isinstance(answers, Ragged) else answers))


def recipe_passes(
    job: Job, setting: Setting, before: Sequence[Pass], form: Sequence[Pass], model: str
) -> list[Pass]:
    """Return the passes of the recipe that makes a job's result again, in a form to ship.

    Args:
        job: the winner's.
        setting: of the search.
        before: passes that made the reference of `model`; it is the result of the last of them.
        form: passes that quantize and export.
        model: what the recipe begins with.
    """
    teacher = f"step:{len(before)}" if before else model
    return [*before, *passes_to(job, setting, teacher), *form]
