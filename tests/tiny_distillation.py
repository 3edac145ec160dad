"""Distillations of tiny models, and how far their weights are apart."""

import torch
from tiny_data import tiny_data
from tiny_models import tiny_artifact, tiny_model

from compress.passes.base import Context, ModelPlan
from compress.passes.distill import Distill
from compress.tasks import Task

TASK = Task(kind="classification", labels=("negative", "positive"))
QUICK = {"epochs": 1, "bf16": False, "dropout": 0, "batch_size": 8, "learning_rate": 1e-3}


def distilled(folder, name="work", data=None, model=None, device="cpu", **options):
    """Run the pass on the teacher, or on `model` with a teacher of its own; return the student's weights and notes."""
    artifact = tiny_artifact(model or tiny_model("bert"))
    context = Context(
        seed=0, workdir=folder / name, data=data or tiny_data(), input_folder=folder / "teacher"
    )
    torch.manual_seed(0)
    if "teacher" not in options:
        options.setdefault("student", "teacher:1")
    student = Distill(**(QUICK | options)).apply(artifact, context)
    return student.model.to("cpu").state_dict(), context.notes


def distance(one, other):
    return sum((value - other[name]).abs().mean() for name, value in one.items()) / len(one)


def answers_file(path, texts, values):
    """Write a file of answers, a pair of numbers for each text: of positive and of negative."""
    rows = [f"{text},{a},{b}" for text, (a, b) in zip(texts, values, strict=True)]
    path.write_text("\n".join(["text,positive,negative", *rows]) + "\n")
    return path


def checked(**options):
    """Return what the pass refuses of options for a tiny BERT."""
    model = tiny_model("bert")
    plan = ModelPlan(model.config, TASK, tiny_data(), place="passes[0] (distill)")
    Distill(**options).check(plan)
    return "\n".join(plan.errors)
