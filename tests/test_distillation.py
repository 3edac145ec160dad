"""The distillation loss, its teacher and its students."""

import math

import numpy as np
import pytest
import torch
from tiny_models import logits, tiny_artifact, tiny_model, tiny_tokenizer

from compress.distillation.objectives import SoftTargetObjective
from compress.distillation.student import layers_wanted, make_student
from compress.errors import InputError
from compress.tasks import Task
from compress.tasks.labels import match_labels
from compress.training.trainer import TaskObjective

BINARY = Task(kind="classification", labels=("negative", "positive"))


def test_soft_target_loss_equals_the_formula_worked_by_hand():
    # T = 2. Teacher logits (2, 0) give p = softmax(1, 0) = (σ(1), 1 − σ(1)); the student's (0, 0) give (½, ½).
    # KL = Σ p log p + log 2. Cross-entropy of the student on any label is log 2. loss = ¾ · T² · KL + ¼ · log 2.
    p = 1 / (1 + math.exp(-1))
    kl = p * math.log(p) + (1 - p) * math.log(1 - p) + math.log(2)
    expected = 0.75 * 4 * kl + 0.25 * math.log(2)
    objective = SoftTargetObjective(BINARY, kd_weight=0.75, temperature=2)
    loss = objective(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([[2.0, 0.0]]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_soft_target_loss_is_a_mean_over_the_batch():
    objective = SoftTargetObjective(BINARY, kd_weight=0.3, temperature=4)
    student, teacher, labels = torch.randn(5, 2), torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    one_by_one = [objective(student[i : i + 1], labels[i : i + 1], teacher[i : i + 1]) for i in range(5)]
    assert objective(student, labels, teacher).item() == pytest.approx(
        torch.stack(one_by_one).mean().item(), rel=1e-5
    )


def test_a_student_that_agrees_with_its_teacher_has_no_soft_loss():
    objective = SoftTargetObjective(BINARY, kd_weight=1, temperature=2)
    same = torch.randn(4, 2)
    assert objective(same, torch.zeros(4, dtype=torch.long), same).item() == pytest.approx(0, abs=1e-7)


def test_weight_zero_is_the_labels_alone():
    student, labels = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    mixed = SoftTargetObjective(BINARY, kd_weight=0, temperature=2)(student, labels, torch.randn(4, 2))
    assert mixed.item() == pytest.approx(TaskObjective(BINARY)(student, labels).item())


def test_regression_matches_the_teachers_number():
    objective = SoftTargetObjective(Task(kind="regression"), kd_weight=0.5, temperature=2)
    # (1 − 3)² = 4 against the teacher, (1 − 2)² = 1 against the label.
    loss = objective(torch.tensor([[1.0]]), torch.tensor([2.0]), torch.tensor([[3.0]]))
    assert loss.item() == pytest.approx(0.5 * 4 + 0.5 * 1)


def test_gradients_reach_the_student_and_never_the_teacher():
    student, teacher = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    SoftTargetObjective(BINARY, 0.5, 2)(student, torch.tensor([0, 1, 0]), teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_labels_are_matched_by_name():
    assert match_labels(["neg", "pos"], ["pos", "neg"], "x") == [1, 0]
    assert match_labels(["LABEL_0", "LABEL_1"], ["0", "1"], "x") == [0, 1]
    assert match_labels(["Negative", "Positive"], ["positive", "negative"], "x") == [1, 0]
    with pytest.raises(InputError, match=r"teacher: labels differ: \[a, b\] against \[a, c\]"):
        match_labels(["a", "b"], ["a", "c"], "teacher")
    with pytest.raises(InputError, match="labels differ"):
        match_labels(["a", "b"], ["a", "b", "c"], "teacher")


def test_a_student_cut_from_its_teacher_keeps_evenly_spaced_layers_and_everything_else():
    teacher = tiny_artifact(tiny_model("bert", layers=4))
    student = make_student("teacher:2", teacher)
    assert student.model.config.num_hidden_layers == 2
    assert len(teacher.model.bert.encoder.layer) == 4, "the teacher stays whole"
    kept = [layer.output.dense.weight for layer in student.model.bert.encoder.layer]
    assert torch.equal(kept[0], teacher.model.bert.encoder.layer[1].output.dense.weight)
    assert torch.equal(kept[1], teacher.model.bert.encoder.layer[3].output.dense.weight)
    assert torch.equal(student.model.classifier.weight, teacher.model.classifier.weight)


@pytest.mark.parametrize("text", ["teacher:0", "teacher:x", "teacher:", "teacher:-1"])
def test_a_student_that_is_no_number_of_layers_is_refused(text):
    with pytest.raises(InputError, match="Write `teacher:3`"):
        layers_wanted(text)


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    from compress.distillation.teacher import Teacher

    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    return Teacher(tiny_artifact(tiny_model("bert")), content="a", bf16=False)


def reviews():
    import datasets

    return datasets.Dataset.from_dict(
        {"text": ["the good film", "a dull and bad plot", "fine cast", "not good"]}
    )


def test_cached_answers_equal_a_fresh_pass_bit_for_bit(teacher, tmp_path):
    fresh = np.array(teacher.logits(reviews(), "d"))
    assert len(list(tmp_path.rglob("*.npy"))) == 1
    teacher.artifact.model.classifier.weight.data.zero_()  # were it asked again, it would answer otherwise
    assert np.array_equal(teacher.logits(reviews(), "d"), fresh)
    assert not np.array_equal(teacher.logits(reviews(), "other data"), fresh)


def test_a_teacher_that_answers_nan_is_refused_and_nothing_is_cached(teacher, tmp_path):
    teacher.artifact.model.classifier.bias.data[0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinity for 4 examples"):
        teacher.logits(reviews(), "d")
    assert not list(tmp_path.rglob("*.npy"))


def test_answers_come_in_the_order_of_the_data_whatever_the_batches(teacher):
    tokenizer = tiny_tokenizer()
    answers = teacher.logits(reviews(), "d")
    for row, text in enumerate(reviews()["text"]):
        alone = logits(teacher.artifact.model, dict(tokenizer(text, return_tensors="pt")))
        np.testing.assert_allclose(answers[row], alone[0].numpy(), atol=1e-5)


def test_a_teacher_that_answers_during_training_stays_as_it_was(tmp_path):
    from compress.passes.base import Context
    from compress.passes.distill import Distill
    from compress.tasks.inputs import encode
    from compress.training.examples import Examples
    from compress.training.trainer import train

    teacher, student = tiny_artifact(tiny_model("bert")), tiny_artifact(tiny_model("bert", layers=1, seed=1))
    before = [{k: v.clone() for k, v in each.model.state_dict().items()} for each in (teacher, student)]
    data = reviews().add_column("label", [1, 0, 1, 0])
    examples = Examples.of(data, student.tokenizer, BINARY)
    examples.teacher_encoded = encode(data, teacher.tokenizer, BINARY)
    train(
        student.model,
        student.tokenizer,
        BINARY,
        examples,
        Examples.of(data, student.tokenizer, BINARY),
        Distill(student="teacher:1", epochs=2, bf16=False, warmup=0),
        Context(seed=0, workdir=tmp_path),
        SoftTargetObjective(BINARY, kd_weight=1, temperature=2),
        (teacher.model, teacher.tokenizer, [0, 1]),
    )
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    same = [
        all(torch.equal(old[name], value) for name, value in each.model.state_dict().items())
        for old, each in zip(before, (teacher, student), strict=True)
    ]
    assert same == [True, False]


def test_a_checkpoint_that_a_kill_cut_short_is_passed_over(tmp_path):
    from compress.training.trainer import last_checkpoint

    assert last_checkpoint(tmp_path) is None
    for step, state in {8: "{}", 12: '{"epoch": 1', 16: ""}.items():
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-20").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-8")
