"""Teachers that cannot teach: other tasks, answers that are not finite, answers that have no mean."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from tiny_data import tiny_data
from tiny_models import WORDS, tiny_artifact, tiny_model

from compress.artifact import save
from compress.distillation.answers import read_answers
from compress.distillation.ensemble import order_of
from compress.distillation.readers import TEACHER_INPUTS
from compress.distillation.signals import Signal
from compress.distillation.soft import soft_loss
from compress.distillation.store import Writer
from compress.distillation.student import make_student
from compress.distillation.teacher import Teacher
from compress.distillation.teachers import Teachers
from compress.distillation.transfer import TransferPart
from compress.errors import CompressError, InputError
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
    with Teachers([teacher], [1]).live([part], teacher.artifact, set()) as (columns, answer):
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


def test_squared_error_sees_the_height_of_labels_that_may_hold_together():
    task = Task(kind="multilabel", labels=("a", "b"))
    low, high = torch.full((1, 2), -5.0), torch.full((1, 2), 5.0)
    labels = torch.zeros(1, 2)
    assert soft_loss(task, "mse", low, high, labels, 1).item() == pytest.approx(100)
    assert soft_loss(CLASSES, "mse", low, high, torch.tensor([0]), 1).item() == pytest.approx(0)


@pytest.mark.parametrize("kind", ["embedding", "questions"])
def test_squared_error_is_refused_where_answers_are_no_logits_of_classes(kind):
    plan = ModelPlan(tiny_model("bert").config, Task(kind=kind), tiny_data(), place="passes[0]")
    Distill(student="teacher:1", logits="mse").check(plan)
    assert any(f"the task is {kind}" in error for error in plan.errors)


LABELS = Task(kind="multilabel", labels=("a", "b"))


def test_probabilities_of_labels_that_may_hold_together_are_each_a_yes_or_no(tmp_path):
    (tmp_path / "answers.csv").write_text("text,a,b\ngood,0.95,0.9\nbad,0.3,0.7\n")
    answers = read_answers(tmp_path / "answers.csv", LABELS)
    said = 1 / (1 + np.exp(-answers.values))
    np.testing.assert_allclose(said, [[0.95, 0.9], [0.3, 0.7]], rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("good,1,0\nbad,x,1\n", r"1 rows have .*line 3"),
        ("good,0.9,0.1\nbad,0.5,0.4\n", r"1 rows of probabilities do not add up to 1 \(line 3\)"),
        ("good,0.9,0.1\ngood,0.2,0.8\n", r"two different answers \(lines? 2"),
    ],
)
def test_files_of_answers_that_contradict_themselves_are_refused(rows, message, tmp_path):
    (tmp_path / "answers.csv").write_text("text,negative,positive\n" + rows)
    with pytest.raises(InputError, match=message):
        read_answers(tmp_path / "answers.csv", CLASSES)


@pytest.mark.parametrize("name", ["answer-0.npy", "lengths.npy"])
def test_a_damaged_cache_is_refused_by_name(teacher, name):
    part = TransferPart(datasets.Dataset.from_dict({"text": WORDS[:3]}), "d")
    teacher.signals(part)
    (file,) = (file for file in cached_files() if file.name == name and "teacher" in str(file.parent))
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"damaged.*Remove this file"):
        teacher.signals(part)
    file.unlink()
    teacher.signals(part)


def test_what_is_begun_counts_to_the_room_that_is_needed(tmp_path, monkeypatch):
    # 1,001 rows of 32 numbers in two bytes, of which one is written: 64,064 bytes of two files, and room for one.
    lengths, one = np.array([1000, 1]), (torch.zeros(1, 1, 32), torch.ones(1, 1))
    free = SimpleNamespace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    first, second = (Writer(tmp_path / f"{i}.npy", lengths, Signal("hidden", i)) for i in range(2))
    first.write([1], *one)
    with pytest.raises(CompressError, match=r"need 0\.0 GB.*Match fewer layers"):
        second.write([1], *one)


def test_another_teacher_has_a_cache_of_its_own(teacher):
    part = TransferPart(datasets.Dataset.from_dict({"text": WORDS[:3]}), "d")
    teacher.signals(part)
    replace(teacher, content="b").signals(part)
    assert len([file for file in cached_files() if file.name.startswith("answer")]) == 2


def cached_files():
    return list(Path(os.environ["COMPRESS_CACHE"]).rglob("*.npy"))


@pytest.mark.parametrize("size", ["vocab_size", "max_position_embeddings"])
def test_a_new_student_has_room_for_what_it_reads(size):
    with pytest.raises(InputError, match=f"{size} is 3"):
        make_student(f"new:{size}=3", tiny_artifact(tiny_model("bert")))
