"""Distillations of tiny models, and how far their weights are apart."""

import torch
from tiny_data import tiny_data
from tiny_models import tiny_artifact, tiny_model

from compress.passes.base import Context
from compress.passes.distill import Distill

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
