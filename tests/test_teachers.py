"""Teachers that cannot teach: other tasks, answers that are not finite, answers that have no mean."""

from dataclasses import replace

import datasets
import pytest
import torch
from tiny_data import tiny_data
from tiny_models import WORDS, tiny_artifact, tiny_model, tiny_tokenizer

from compress.artifact import save
from compress.distillation.ensemble import order_of
from compress.distillation.soft import soft_loss
from compress.distillation.teacher import Teacher
from compress.distillation.teachers import TEACHER_INPUTS, Teachers
from compress.distillation.transfer import TransferPart
from compress.errors import InputError
from compress.passes.base import ModelPlan
from compress.passes.distill import Distill
from compress.tasks import Task

CLASSES = Task(kind="classification", labels=("negative", "positive"))


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    return Teacher(tiny_artifact(tiny_model("bert")), content="a", bf16=False)


def teacher_of(task, tokenizer):
    artifact = tiny_artifact(tiny_model("bert"))
    manifest = artifact.manifest.model_copy(update={"task": task})
    return Teacher(replace(artifact, manifest=manifest, tokenizer=tokenizer), content="a", bf16=False)


def test_a_teacher_that_answers_nan_at_every_step_is_refused(teacher):
    part = TransferPart(datasets.Dataset.from_dict({"text": WORDS[:3]}), "d")
    with Teachers([teacher], [1]).live([part], CLASSES, set()) as (columns, answer):
        column = columns[TEACHER_INPUTS]
        batch = column.stack([column[row] for row in range(3)])
        assert torch.isfinite(answer(batch)["answer"]).all()
        teacher.artifact.model.classifier.bias.data[0] = float("nan")
        with pytest.raises(InputError, match="NaN or infinity for 3 examples"):
            answer(batch)


def test_a_teacher_of_another_task_is_refused(tmp_path):
    with pytest.raises(InputError, match="task is embedding, the student's regression"):
        order_of(Task(kind="embedding"), Task(kind="regression"), "teacher")
    with pytest.raises(InputError, match="task is classification, the student's multilabel"):
        order_of(CLASSES, Task(kind="multilabel", labels=CLASSES.labels), "teacher")
    save(tiny_artifact(tiny_model("bert")), tmp_path / "teacher")
    plan = ModelPlan(tiny_model("bert").config, Task(kind="regression"), tiny_data(), place="passes[0]")
    Distill(teacher=str(tmp_path / "teacher")).check(plan)
    assert "task is classification, the student's regression" in plan.errors[0]


def test_answers_that_have_no_mean_are_refused():
    embedding, words = Task(kind="embedding"), Task(kind="tokens", labels=("a", "b"))
    part = TransferPart(datasets.Dataset.from_dict({"text": WORDS[:3]}), "d")

    def together(task, *tokenizers):
        members = [teacher_of(task, tokenizer) for tokenizer in tokenizers]
        with Teachers(members, [0.5, 0.5]).live([part], task, set()):
            pass

    with pytest.raises(InputError, match="vectors of several teachers"):
        together(embedding, tiny_tokenizer(), tiny_tokenizer())
    other = tiny_tokenizer()
    other.add_tokens(["other"])
    with pytest.raises(InputError, match="teachers with different tokenizers"):
        together(words, tiny_tokenizer(), other)


def test_squared_error_sees_the_height_of_labels_that_may_hold_together():
    task = Task(kind="multilabel", labels=("a", "b"))
    low, high = torch.full((1, 2), -5.0), torch.full((1, 2), 5.0)
    labels = torch.zeros(1, 2)
    assert soft_loss(task, "mse", low, high, labels, None, 1).item() == pytest.approx(100)
    assert soft_loss(CLASSES, "mse", low, high, torch.tensor([0]), None, 1).item() == pytest.approx(0)


@pytest.mark.parametrize("kind", ["embedding", "questions"])
def test_squared_error_is_refused_where_answers_are_no_logits_of_classes(kind):
    plan = ModelPlan(tiny_model("bert").config, Task(kind=kind), tiny_data(), place="passes[0]")
    Distill(student="teacher:1", logits="mse").check(plan)
    assert any(f"the task is {kind}" in error for error in plan.errors)
