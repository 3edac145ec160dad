"""Students that read other tokens than their teacher, task by task."""

import pytest
import test_task_embedding
import test_task_questions
import test_task_tokens
import torch
from tiny_distillation import distance
from tiny_tasks import bare_model, write_jsonl

from compress import pipeline
from compress.artifact import load, save
from compress.data import DataConfig, load_data
from compress.passes.distill import Distill
from compress.passes.finetune import Finetune, task_of
from compress.pipeline import Step

KINDS = {  # rows and the teacher's family; a student of BERT's has other pieces than RoBERTa, other ends than MPNet
    "tokens": (test_task_tokens.rows, "mpnet"),
    "questions": (test_task_questions.rows, "roberta"),  # 16 tokens: both read windows, of their own
    "embedding": (test_task_embedding.rows, "mpnet"),
}
OPTIONS = {
    "epochs": 1,
    "batch_size": 8,
    "bf16": False,
    "dropout": 0,
    "learning_rate": 1e-3,
    "kd_weight": 1,
    "max_length": 16,
}


def models(folder, data, teacher):
    """Save a teacher and a student, both with a head for the task."""
    task = task_of(load_data(data), OPTIONS["max_length"])
    for family in (teacher, "bert"):
        artifact = load(bare_model(folder / f"bare-{family}", family), task)
        for weights in artifact.model.parameters():
            weights.data += 0.1 * torch.randn_like(weights)
        save(artifact, folder / family)
    return str(folder / teacher), str(folder / "bert")


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_from_a_teacher_of_other_tokens_at_every_step_or_beforehand(tmp_path, kind):
    rows, family = KINDS[kind]
    data = DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows()[:32])), task=kind)
    teacher, student = models(tmp_path, data, family)
    weights = {}
    for cache in (True, False):
        distill = Distill(
            teacher=teacher, match=[{"objective": "hidden", "layers": "last"}], cache=cache, **OPTIONS
        )
        out = tmp_path / f"out-{cache}"
        pipeline.run(pipeline.plan(student, [Step(distill, out)], data), tmp_path / "work")
        weights[cache] = load(out).model.state_dict()
    moved = distance(weights[True], load(student).model.state_dict())
    assert distance(weights[True], weights[False]) < 0.01 * moved


def test_answers_are_learned_from_a_teacher_of_other_tokens_alone(tmp_path):
    source = write_jsonl(tmp_path / "x.jsonl", test_task_questions.rows())
    data = DataConfig(source=str(source), task="questions")
    options = {**OPTIONS, "epochs": 5, "learning_rate": 3e-3}

    def f1(family, step):
        bare = bare_model(tmp_path / f"bare-{family}", family)
        pipeline.run(pipeline.plan(bare, [Step(step, tmp_path / family)], data), tmp_path / "work")
        return load(tmp_path / family).manifest.history[-1].after["f1"]

    labelled = {**options, "max_length": 64}
    del labelled["kd_weight"]
    teacher = f1("roberta", Finetune(**labelled))
    taught = f1("bert", Distill(teacher=str(tmp_path / "roberta"), **options))
    assert teacher > 90
    assert taught > 0.9 * teacher  # none of it from a label, for kd_weight is 1
