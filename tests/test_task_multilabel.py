"""Several labels a text: how they are read, the loss and F1 worked by hand, and the whole way to a file."""

import math

import numpy as np
import pytest
import torch
from tiny_tasks import BAD, NOUNS, SENTENCES, whole_way, write_jsonl
from tiny_tokenizers import trained_tokenizer

from compress.data import DataConfig, load_data
from compress.errors import InputError
from compress.tasks import Task

TASK = Task(kind="multilabel", labels=("a", "b", "c"))


def labels_of(text):
    return [word for word in text.split() if word in (*NOUNS, *BAD)]


def rows():
    return [{"text": text, "labels": labels_of(text)} for text in SENTENCES]


def test_lists_of_names_are_several_labels(tmp_path):
    data = load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows()))))
    assert data.kind == "multilabel"
    assert data.labels == tuple(sorted((*NOUNS, *BAD)))
    for row in data.train:
        assert [data.labels[number] for number in row["label"]] == sorted(labels_of(row["text"]))


def test_a_string_is_split_where_the_separator_is_named(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("text,label\n" + "".join(f"{text},{'; '.join(labels_of(text))}\n" for text in SENTENCES))
    data = load_data(DataConfig(source=str(file), separator=";"))
    assert data.kind == "multilabel"
    assert data.labels == tuple(sorted((*NOUNS, *BAD)))


def test_flags_are_labels_by_position(tmp_path):
    flags = [{"text": text, "label": [int("film" in text), int("dull" in text), 1]} for text in SENTENCES]
    data = load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", flags))))
    assert data.labels == ("0", "1", "2")
    assert data.train[0]["label"] == [
        n for n, word in enumerate(("film", "dull", "")) if word in data.train[0]["text"]
    ]


@pytest.mark.parametrize(
    ("value", "message"), [("film", "where a list of classes should be"), ([1.5], "where a list of classes")]
)
def test_a_row_that_holds_no_list_is_refused(tmp_path, value, message):
    broken = [*rows()[:-1], {"text": "x", "labels": value}]
    with pytest.raises(InputError, match=f"{message}.*line {len(broken)}.*separator"):
        load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", broken)), task="multilabel"))


def test_labels_are_matched_to_a_models_order(tmp_path):
    data = load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows()))))
    task = Task(kind="multilabel", labels=data.labels[::-1])
    for before, after in zip(data.test, data.aligned(task).test, strict=True):
        assert {data.labels[n] for n in before["label"]} == {task.labels[n] for n in after["label"]}


def test_the_loss_is_the_mean_over_what_is_known():
    logits = torch.tensor([[0.0, math.log(3), 5.0], [1.0, 1.0, 1.0]], requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, math.nan], [math.nan] * 3])
    # -log σ(0) = log 2; -log(1 - σ(log 3)) = -log(1/4) = log 4; the unknown ones do not count
    assert TASK.loss(logits, labels).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    nothing = TASK.loss(logits, torch.full_like(labels, math.nan))
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


def test_f1_by_hand_and_as_a_ratio_of_sums():
    answers = np.array([[1, 1, -1], [-1, 1, -1], [-1, -1, -1]], np.float32)  # a b | b | none
    targets = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], np.float32)  # a | b c | none
    scores = TASK.metrics(answers, targets)
    # given 3, true 3, right 2: 2·2 / 6; by label: a 1, b 2·1 / (2 + 1), c 0; whole rows right: the last
    assert scores["micro_f1"] == pytest.approx(100 * 2 / 3)
    assert scores["macro_f1"] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)
    assert scores["exact"] == pytest.approx(100 / 3)
    assert TASK.rules.ratio(answers, targets).tolist() == [[2, 3], [2, 3], [0, 0]]
    assert TASK.rules.decisions(answers, targets).tolist() == [1, 1, 0, 0, 1, 0, 0, 0, 0]


def test_f1_of_a_single_label_is_that_of_its_yes():
    task = Task(kind="multilabel", labels=("a",))
    answers, targets = (
        np.array([[1], [1], [-1], [-1]], np.float32),
        np.array([[1], [0], [0], [0]], np.float32),
    )
    # given 2, true 1, right 1: 2·1 / 3; three of four rows are right
    scores = task.metrics(answers, targets)
    assert (scores["micro_f1"], scores["macro_f1"]) == (pytest.approx(200 / 3), pytest.approx(200 / 3))
    assert scores["exact"] == pytest.approx(75)


def test_text_without_labels_is_encoded_with_none(tmp_path):
    data = load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows()))))
    task = Task(kind="multilabel", labels=data.labels)
    encoded = task.encode(data.test.remove_columns("label"), trained_tokenizer("bert"))
    assert np.isnan(encoded.labels).all()
    assert encoded.labels.shape == (len(data.test), len(data.labels))


def test_the_whole_way(tmp_path):
    data = DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows())))
    artifact, found = whole_way(tmp_path, data, epochs=20, learning_rate=1e-2)
    assert artifact.model.config.problem_type == "multi_label_classification"
    file = found["02-export", "onnxruntime"]
    assert file.metric.name == "micro_f1"
    assert file.metric.value > 30
    assert file.agreement_with_first == 100
    assert file.metric.ci95[0] <= file.metric.value <= file.metric.ci95[1]
