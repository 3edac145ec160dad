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

KINDS = {  # rows and the teachers' families; a student of BERT's has other pieces than RoBERTa, other ends than MPNet
    "tokens": (test_task_tokens.rows, ("mpnet", "roberta")),
    "questions": (
        test_task_questions.rows,
        ("roberta", "mpnet"),
    ),  # 16 tokens: all read windows, of their own
    "embedding": (test_task_embedding.rows, ("mpnet", "roberta")),
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


def models(folder, data, *families):
    """Save models of these families with a head for the task; return where."""
    task = task_of(load_data(data), OPTIONS["max_length"])
    for family in families:
        artifact = load(bare_model(folder / f"bare-{family}", family), task)
        for weights in artifact.model.parameters():
            weights.data += 0.1 * torch.randn_like(weights)
        save(artifact, folder / family)
    return [str(folder / family) for family in families]


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_from_teachers_of_other_tokens_at_every_step_or_beforehand(tmp_path, kind):
    rows, families = KINDS[kind]
    data = DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows()[:32])), task=kind)
    *teachers, student = models(tmp_path, data, *families, "bert")

    def taught(name, number, cache=True, match=()):
        options = {"teacher": teachers[0], "teachers": teachers[1:number], "match": match, "cache": cache}
        steps = [Step(Distill(**options, **OPTIONS), tmp_path / name)]
        pipeline.run(pipeline.plan(student, steps, data), tmp_path / "work")
        return load(tmp_path / name).model.state_dict()

    before, hidden = load(student).model.state_dict(), [{"objective": "hidden", "layers": "last"}]
    inside = taught("inside", 1, match=hidden)
    live = taught("inside-live", 1, cache=False, match=hidden)
    assert distance(inside, live) < 0.01 * distance(inside, before)
    alone, both = taught("alone", 1), taught("both", 2)
    moved = distance(both, before)
    assert distance(both, taught("both-live", 2, cache=False)) < 0.01 * moved
    assert distance(both, alone) > 0.1 * moved  # the second is heard


def test_answers_are_learned_from_teachers_of_other_tokens_alone(tmp_path):
    source = write_jsonl(tmp_path / "x.jsonl", test_task_questions.rows())
    data = DataConfig(source=str(source), task="questions")
    options = {**OPTIONS, "epochs": 5, "learning_rate": 3e-3}

    def f1(family, step):
        bare = bare_model(tmp_path / f"bare-{family}", family)
        pipeline.run(pipeline.plan(bare, [Step(step, tmp_path / family)], data), tmp_path / "work")
        return load(tmp_path / family).manifest.history[-1].after["f1"]

    labelled = {**options, "max_length": 64}
    del labelled["kd_weight"]
    bytewise, words = (f1(family, Finetune(**labelled)) for family in ("roberta", "mpnet"))
    teachers = {"teacher": str(tmp_path / "roberta"), "teachers": [str(tmp_path / "mpnet")]}
    taught = f1("bert", Distill(**teachers, **options))
    assert bytewise > 90
    assert words > 90
    assert taught > 0.9 * bytewise  # none of it from a label, for kd_weight is 1
