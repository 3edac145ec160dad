"""What a distillation is refused for, before anything runs or before a teacher answers."""

import datasets
import pytest
from tiny_data import tiny_data
from tiny_distillation import QUICK, TASK, answers_file, checked, distilled
from tiny_models import tiny_artifact, tiny_model

from compress.data import TextData
from compress.distillation.teacher import Teacher
from compress.errors import InputError
from compress.passes.base import Context, ModelPlan
from compress.passes.distill import Distill
from compress.tasks import Task


def test_what_cannot_work_is_refused_before_anything_runs(folder):
    file = str(answers_file(folder / "answers.csv", ["good film"], [(1, 0)]))
    assert "teacher:9, but the teacher has 3 layers" in checked(student="teacher:9")
    wrong = [{"objective": "hidden", "layers": [[3, 0]]}]
    assert "[3, 0]: the teacher has layers 0 to 2, the student 0 to 1" in checked(
        student="teacher:2", match=wrong
    )
    wrong = [{"objective": "hidden", "layers": [[0, 3]]}]
    assert "[0, 3]: the teacher has layers 0 to 2" in checked(teacher=str(folder / "teacher"), match=wrong)
    assert "there is no file none.csv" in checked(teacher="none.csv")
    assert "freeze: there is no layer 2, the model has 2" in checked(student="teacher:2", freeze=[0, 2])
    assert "no model has these sizes" in checked(student="new:hidden_size=30")
    assert "tiny does not say what single raters thought" in checked(teacher="ratings")
    assert "unlabelled: there is no none.txt" in checked(student="teacher:1", unlabelled="none.txt")
    assert "unlabelled: there is no source without a name" in checked(student="teacher:1", unlabelled=" ")
    for more in ({"unlabelled": "brown-pos"}, {"augment": [{"method": "word-swap"}]}):
        assert "kd_weight is 0 with nothing matched" in checked(student="teacher:1", kd_weight=0, **more)
    assert "near-texts makes pairs" in checked(student="teacher:1", augment=[{"method": "near-texts"}])
    assert "nothing inside" in checked(teacher=file, match=[{"objective": "hidden"}])
    assert "cannot answer at every step" in checked(teacher=file, cache=False)
    dev = {"student": "teacher:1", "teachers": [file], "teacher_weights": "dev"}
    assert f"{file} cannot be scored on the dev split" in checked(**dev)
    assert "48 of 48 training texts have no answer" in checked(teacher=file)
    other = answers_file(folder / "other.csv", ["good film"], [(1, 0)])
    other.write_text(other.read_text().replace("positive", "fine"))
    assert "labels differ" in checked(teacher=str(other))
    plan = ModelPlan(None, Task(kind="tokens", labels=("a", "b")), tiny_data(), place="passes[0] (distill)")
    Distill(teacher=file).check(plan)
    assert "holds an answer for a text, the task is tokens" in plan.errors[0]
    assert "give either a student or a teacher" in checked()
    with pytest.raises(ValueError, match="between 0 and 1"):
        Distill(student="teacher:1", kd_weight=(1, 1.5))
    with pytest.raises(ValueError, match="above 0"):
        Distill(student="teacher:1", temperature=(4, 0))


def test_a_step_of_the_chain_as_teacher_is_checked_before_anything_runs():
    config = tiny_model("bert").config
    tagger = Task(kind="tokens", labels=("a", "b"))
    results = [(config, None), (config, tagger), (config, TASK)]
    wrong = [{"objective": "hidden", "layers": [[3, 0]]}]

    def refused(**options):
        plan = ModelPlan(config, TASK, tiny_data(), results, place="passes[3] (distill)")
        Distill(**options).check(plan)
        return "\n".join(plan.errors)

    assert "step:4 is not a pass before this one. Give step:1 to step:3" in refused(teacher="step:4")
    assert "step:1 has no trained head" in refused(teacher="step:1")
    assert "the teacher's task is tokens, the student's classification" in refused(teacher="step:2")
    assert "[3, 0]: the teacher has layers 0 to 2" in refused(teacher="step:3", match=wrong)
    assert refused(teacher="step:3") == ""


def test_what_cannot_be_compared_is_refused_before_the_teacher_answers(folder, monkeypatch):
    monkeypatch.setattr(Teacher, "signals", None)  # called, it would fail otherwise
    with pytest.raises(InputError, match="3 relation heads do not divide a width of 32"):
        distilled(folder, match=[{"objective": "relations", "heads": 3}])


@pytest.mark.parametrize("match", [{"objective": "hidden", "layers": "last"}, {"objective": "sentence"}])
def test_signals_that_come_by_token_first_are_refused(folder, match):
    with pytest.raises(InputError, match=f"xlnet: the model shows no {match['objective']} of layer 2"):
        distilled(folder, model=tiny_model("xlnet"), student="new:vocab_size=20", match=[match])


def test_an_empty_transfer_set_is_refused(folder):
    (folder / "empty.txt").write_text("\n\n")
    with pytest.raises(InputError, match="the transfer set is empty"):
        distilled(folder, unlabelled=str(folder / "empty.txt"))


def test_tokenizers_without_tokens_in_common_cannot_be_matched_by_token(folder):
    letters = datasets.Dataset.from_dict({"text": ["goodfilm", "dullplot"] * 8, "label": [0, 1] * 8})
    data = TextData("odd", letters, letters, letters, TASK.labels, False, "odd", ())
    from test_alignment import letters as by_letter

    student = tiny_artifact(tiny_model("bert", layers=1, tokenizer=by_letter())).evolve(tokenizer=by_letter())
    context = Context(seed=0, workdir=folder / "work", data=data, input_folder=folder / "teacher")
    pass_ = Distill(**QUICK, teacher=str(folder / "teacher"), match=[{"objective": "hidden"}])
    with pytest.raises(InputError, match="split text differently"):
        pass_.apply(student, context)
    assert Distill(**QUICK, teacher=str(folder / "teacher"), match=[{"objective": "sentence"}]).apply(
        student, context
    )
