"""The distillation loss, its teachers and its students."""

import math

import datasets
import numpy as np
import pytest
import torch
from tiny_models import logits, tiny_artifact, tiny_batch, tiny_model, tiny_tokenizer

from compress.distillation.objective import ANSWER, DistillationObjective
from compress.distillation.objectives.soft_targets import (
    binary_divergence,
    logit_error,
    soft_target_divergence,
)
from compress.distillation.signals import Signal, answering, attention_maps, record
from compress.distillation.soft import soft_loss
from compress.distillation.transfer import TransferPart
from compress.errors import InputError
from compress.tasks import Task
from compress.tasks.labels import match_labels
from compress.training.objective import TaskObjective

NUMBER = Task(kind="regression")
SAID = Signal("answer")
BINARY = Task(kind="classification", labels=("negative", "positive"))


def loss_of(objective, logits, labels, teacher, progress=0.0):
    return objective(logits, labels, {ANSWER: teacher}, progress)


def test_soft_target_loss_equals_the_formula_worked_by_hand():
    # T = 2. Teacher logits (2, 0) give p = softmax(1, 0) = (σ(1), 1 − σ(1)); the student's (0, 0) give (½, ½).
    # KL = Σ p log p + log 2. Cross-entropy of the student on any label is log 2. loss = ¾ · T² · KL + ¼ · log 2.
    p = 1 / (1 + math.exp(-1))
    kl = p * math.log(p) + (1 - p) * math.log(1 - p) + math.log(2)
    expected = 0.75 * 4 * kl + 0.25 * math.log(2)
    objective = DistillationObjective(BINARY, TaskObjective(BINARY), kd_weight=0.75, temperature=2)
    loss = loss_of(objective, torch.zeros(1, 2), torch.tensor([1]), torch.tensor([[2.0, 0.0]]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_soft_target_loss_is_a_mean_over_the_batch():
    objective = DistillationObjective(BINARY, TaskObjective(BINARY), kd_weight=0.3, temperature=4)
    student, teacher, labels = torch.randn(5, 2), torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    one_by_one = [
        loss_of(objective, student[i : i + 1], labels[i : i + 1], teacher[i : i + 1]) for i in range(5)
    ]
    whole = loss_of(objective, student, labels, teacher)
    assert whole.item() == pytest.approx(torch.stack(one_by_one).mean().item(), rel=1e-5)


def test_a_student_that_agrees_with_its_teacher_has_no_soft_loss():
    same = torch.randn(4, 2)
    assert soft_target_divergence(same, same, 2).item() == pytest.approx(0, abs=1e-7)
    assert soft_target_divergence(same + 3, same, 2).item() == pytest.approx(0, abs=1e-6), (
        "a shift is no answer"
    )
    assert binary_divergence(same, same, 2).item() == pytest.approx(0, abs=1e-7)
    assert logit_error(same + 3, same, centred=True).item() == pytest.approx(0, abs=1e-7)


def test_yes_or_no_of_each_label_worked_by_hand():
    # T = 1, one label. Teacher logit log 3 says ¾, the student's 0 says ½: ¾ log(¾ / ½) + ¼ log(¼ / ½).
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    given = binary_divergence(torch.zeros(1, 1), torch.tensor([[math.log(3)]]), 1)
    assert given.item() == pytest.approx(expected, rel=1e-5)
    # At T = 2 it is 4 times the divergence of halved logits.
    halved = binary_divergence(torch.tensor([[0.5]]), torch.tensor([[1.5]]), 1)
    assert binary_divergence(torch.tensor([[1.0]]), torch.tensor([[3.0]]), 2).item() == pytest.approx(
        4 * halved.item(), rel=1e-5
    )


def test_squared_error_of_logits_worked_by_hand():
    # Less their means the teacher's (3, 1) are (1, −1), the student's (0, 4) are (−2, 2): (9 + 9) / 2.
    given, wanted = torch.tensor([[0.0, 4.0]]), torch.tensor([[3.0, 1.0]])
    assert logit_error(given, wanted, centred=True).item() == pytest.approx(9)
    # As they are: (9 + 9) / 2 too, and a shift of both, which sigmoids see, is not lost.
    assert logit_error(given + 1, wanted, centred=False).item() == pytest.approx((4 + 16) / 2)


# KL of (¾, ¼) from (½, ½).
EXPECTED = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)


def test_soft_targets_of_words_worked_by_hand():
    task = Task(kind="tokens", labels=("a", "b"))
    sure, unsure, wrong = [math.log(3), 0.0], [0.0, 0.0], [9.0, -9.0]
    silent = [math.nan, math.nan]
    teacher = torch.tensor([[sure, wrong, silent, unsure]])
    student = torch.zeros(1, 4, 2)
    # Of a row with labels the labelled tokens count that the teacher has too: the first and the last.
    labels = torch.tensor([[1, -100, 0, 1]])
    loss = soft_loss(task, "kl", student, teacher, labels, 1)
    assert loss.item() == pytest.approx((EXPECTED + 0) / 2, rel=1e-5)
    # Of a row without any, all that the teacher has.
    unlabelled = torch.full((1, 4), -100)
    teacher[0, 1] = torch.tensor(sure)
    loss = soft_loss(task, "kl", student, teacher, unlabelled, 1)
    assert loss.item() == pytest.approx((2 * EXPECTED + 0) / 3, rel=1e-5)
    loss = soft_loss(task, "kl", student, torch.full_like(teacher, math.nan), unlabelled, 1)
    assert loss.item() == 0


def test_soft_targets_of_places_worked_by_hand():
    task = Task(kind="questions")
    # Of three tokens two can be compared, for the end the last two. The start is the first with ¾, the end either with
    # ½; the student: ½ each.
    teacher = torch.tensor([[[math.log(3), math.nan], [0.0, 2.0], [math.nan, 2.0]]])
    student = torch.tensor([[[1.0, 70.0], [1.0, 5.0], [-7.0, 5.0]]])
    loss = soft_loss(task, "kl", student, teacher, torch.zeros(1, 2, dtype=torch.long), 1)
    assert loss.item() == pytest.approx((EXPECTED + 0) / 2, rel=1e-4)


def test_weight_zero_is_the_labels_alone():
    student, labels = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    mixed = loss_of(
        DistillationObjective(BINARY, TaskObjective(BINARY), kd_weight=0), student, labels, torch.randn(4, 2)
    )
    assert mixed.item() == pytest.approx(TaskObjective(BINARY)(student, labels).item())


def test_regression_matches_the_teachers_number():
    objective = DistillationObjective(NUMBER, TaskObjective(NUMBER), kd_weight=0.5)
    # (1 − 3)² = 4 against the teacher, (1 − 2)² = 1 against the label.
    loss = loss_of(objective, torch.tensor([[1.0]]), torch.tensor([2.0]), torch.tensor([[3.0]]))
    assert loss.item() == pytest.approx(0.5 * 4 + 0.5 * 1)


def test_an_example_without_a_label_is_taught_by_the_teacher_alone():
    student, teacher = torch.randn(3, 2), torch.randn(3, 2)
    objective = DistillationObjective(BINARY, TaskObjective(BINARY), kd_weight=0.5)
    loss = loss_of(objective, student, torch.tensor([1, -100, -100]), teacher)
    soft = soft_target_divergence(student, teacher, 2)
    hard = TaskObjective(BINARY)(student[:1], torch.tensor([1]))
    assert loss.item() == pytest.approx((0.5 * soft + 0.5 * hard).item(), rel=1e-6)
    nobody = loss_of(objective, student, torch.full((3,), -100), teacher)
    assert nobody.item() == pytest.approx(0.5 * soft.item(), rel=1e-6)
    numbers = TaskObjective(NUMBER)
    # Only the first has a label: (1 − 3)².
    assert numbers(torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, math.nan])).item() == pytest.approx(4)
    assert numbers(torch.tensor([[1.0]]), torch.tensor([math.nan])).item() == 0


def test_weight_and_temperature_follow_their_schedules():
    student, labels, teacher = torch.randn(4, 2), torch.tensor([0, 1, 1, 0]), torch.randn(4, 2)
    moving = DistillationObjective(
        BINARY, TaskObjective(BINARY), kd_weight=(1.0, 0.2), temperature=(4.0, 2.0)
    )
    halfway = DistillationObjective(BINARY, TaskObjective(BINARY), kd_weight=0.6, temperature=3.0)
    loss = loss_of(moving, student, labels, teacher, progress=0.5)
    assert loss.item() == pytest.approx(loss_of(halfway, student, labels, teacher).item(), rel=1e-6)


def test_label_smoothing_worked_by_hand():
    # ε = ½ of two classes: target (¾, ¼). Logits (log 3, 0) say (¾, ¼): its entropy.
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    loss = TaskObjective(BINARY, label_smoothing=0.5)(torch.tensor([[math.log(3), 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_gradients_reach_the_student_and_never_the_teacher():
    student, teacher = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    for kind in ("kl", "mse"):
        student.grad = None
        objective = DistillationObjective(BINARY, TaskObjective(BINARY), kind, 0.5)
        loss_of(objective, student, torch.tensor([0, 1, 0]), teacher).backward()
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


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    from compress.distillation.teacher import Teacher

    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    return Teacher(tiny_artifact(tiny_model("bert")), content="a", bf16=False)


SIGNALS = [
    SAID,
    Signal("embedding"),
    Signal("hidden", 2),
    Signal("sentence", 2),
    Signal("attention", 1),
    Signal("query", 1),
    Signal("key", 0),
    Signal("value", 2),
]


def reviews():
    return datasets.Dataset.from_dict(
        {"text": ["the good film", "a dull and bad plot", "fine cast", "not good"]}
    )


def encoded_reviews():
    """The reviews in the batch that a teacher makes of them, and their places in it."""
    from compress.tasks.inputs import batches, encode

    tokenizer = tiny_tokenizer()
    ((order, batch),) = batches(encode(reviews(), tokenizer, BINARY), tokenizer, 32)
    return batch, [order.index(row) for row in range(4)]


def test_cached_answers_equal_a_fresh_pass_bit_for_bit(teacher, tmp_path):
    stored = teacher.signals(TransferPart(reviews(), "d"), SIGNALS)
    batch, places = encoded_reviews()
    with answering(teacher.artifact, SIGNALS, bf16=False) as answer:
        fresh = answer(batch)
    assert len(list((tmp_path / "teacher").rglob("*.npy"))) == len(SIGNALS) + 1, "and the lengths"
    lengths = batch["attention_mask"].sum(1)
    for signal in SIGNALS:
        kept = fresh[signal] if signal == SAID else fresh[signal].bfloat16()
        for row, place in enumerate(places):
            length = int(lengths[place])
            cut = (..., slice(length), slice(length)) if signal.rows == 2 else slice(length)
            wanted = kept[place] if signal.rows == 0 else kept[place][cut]
            assert torch.equal(stored[signal][row], wanted), signal
    teacher.artifact.model.classifier.weight.data.zero_()  # were it asked again, it would answer otherwise
    again = teacher.signals(TransferPart(reviews(), "d"), SIGNALS)
    assert torch.equal(again[SAID][1], stored[SAID][1])
    assert not torch.equal(teacher.signals(TransferPart(reviews(), "other data"))[SAID][1], stored[SAID][1])


def test_answers_do_not_depend_on_whether_maps_were_read_before(teacher):
    # Maps are computed by plain attention, all else by torch's fused one, which rounds otherwise.
    part = TransferPart(reviews(), "d")
    teacher.signals(part, [Signal("attention", 1)])
    stored = teacher.signals(part)[SAID]
    batch, places = encoded_reviews()
    with answering(teacher.artifact, {SAID}, bf16=False) as answer:
        fresh = answer(batch)[SAID]
    assert all(torch.equal(stored[row], fresh[place]) for row, place in enumerate(places))


def test_a_batch_of_stored_signals_is_padded_with_zeros(teacher):
    stored = teacher.signals(TransferPart(reviews(), "d"), SIGNALS)
    with answering(teacher.artifact, SIGNALS, bf16=False) as answer:
        fresh = answer(encoded_reviews()[0])
    mask = tiny_tokenizer()(list(reviews()["text"]), padding=True, return_tensors="pt")["attention_mask"]
    for signal in SIGNALS:
        batch = stored[signal].stack([stored[signal][row] for row in range(4)]).float()
        assert batch.shape == fresh[signal].shape
        if signal.rows == 1:
            assert (batch[mask == 0] == 0).all()
        if signal.rows == 2:
            assert (batch.transpose(1, 3)[mask == 0] == 0).all()


def test_the_signals_are_what_the_model_computes():
    model, (batch, _) = tiny_model("bert"), encoded_reviews()
    wanted = {
        Signal("embedding"),
        Signal("hidden", 1),
        Signal("attention", 1),
        Signal("sentence", 2),
        Signal("query", 1),
    }
    with answering(tiny_artifact(model), wanted, bf16=False) as answer:
        found = answer(batch)
        outputs = model(**batch, output_hidden_states=True, output_attentions=True)
    assert set(found) == wanted, "no more than that"
    assert torch.equal(found[Signal("embedding")], outputs.hidden_states[0])
    assert torch.equal(found[Signal("hidden", 1)], outputs.hidden_states[2])
    assert torch.equal(found[Signal("attention", 1)], outputs.attentions[1])
    layer = model.bert.encoder.layer[1].attention.self
    assert torch.equal(found[Signal("query", 1)], layer.query(outputs.hidden_states[1]))
    first = outputs.hidden_states[3][0][: batch["attention_mask"][0].sum()]
    assert torch.allclose(found[Signal("sentence", 2)][0], first.mean(0), atol=1e-6)
    assert model.config._attn_implementation != "eager", "as it was before"


@pytest.mark.parametrize(
    "family", ["distilbert", "mpnet", "albert", "deberta-v2", "modernbert", "llama", "gpt2"]
)
def test_queries_keys_and_values_are_found_in_families(family):
    model = tiny_model(family)
    wanted = {Signal(kind, layer) for kind in ("query", "key", "value", "hidden") for layer in (0, 1)}
    with answering(tiny_artifact(model), wanted, bf16=False) as answer:
        found = answer(encoded_reviews()[0])
    tokens = encoded_reviews()[0]["input_ids"].shape
    assert set(found) == wanted
    assert all(value.shape[:2] == tokens for value in found.values())
    assert found[Signal("query", 0)].shape[-1] == 32, "four heads of eight"
    assert not torch.equal(found[Signal("query", 0)], found[Signal("key", 0)])
    assert not torch.equal(found[Signal("hidden", 0)], found[Signal("hidden", 1)])


@pytest.mark.parametrize("family", ["bert", "t5", "mpnet", "deberta-v2", "modernbert", "gpt2"])
def test_rows_of_attention_maps_add_up_to_one(family):
    model = tiny_model(family)
    batch = tiny_batch(eos=model.config.eos_token_id if model.config.is_encoder_decoder else None)
    wanted = [Signal("attention", 2)]
    with torch.no_grad(), attention_maps(model, wanted) as options, record(model, wanted) as found:
        model(**batch, **options)
    rows = found[wanted[0]].sum(-1).transpose(1, 2)[batch["attention_mask"] == 1]
    assert torch.allclose(rows, torch.ones_like(rows))


def test_a_layer_that_is_not_there_is_refused():
    with (
        pytest.raises(InputError, match="Give layers from 0 to 2"),
        record(tiny_model("bert"), [Signal("hidden", 3)]),
    ):
        pass


def test_a_teacher_that_answers_nan_is_refused_and_nothing_is_cached(teacher, tmp_path):
    teacher.artifact.model.classifier.bias.data[0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinity for 4 examples"):
        teacher.signals(TransferPart(reviews(), "d"))
    assert not list(tmp_path.rglob("answer*"))


def test_answers_come_in_the_order_of_the_data_whatever_the_batches(teacher):
    tokenizer = tiny_tokenizer()
    answers = teacher.signals(TransferPart(reviews(), "d"))[SAID]
    for row, text in enumerate(reviews()["text"]):
        alone = logits(teacher.artifact.model, dict(tokenizer(text, return_tensors="pt")))
        np.testing.assert_allclose(answers[row], alone[0].numpy(), atol=1e-5)
