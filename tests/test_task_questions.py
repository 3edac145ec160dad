"""Spans that answer questions: windows, the best span, SQuAD's scores by hand, and the whole way to a file."""

import json
import math

import datasets
import numpy as np
import pytest
import torch
from tiny_tasks import NOUNS, SENTENCES, bare_model, whole_way, write_jsonl
from tiny_tokenizers import trained_tokenizer

from compress.artifact import load
from compress.data import DataConfig, load_data
from compress.errors import InputError
from compress.tasks import Task
from compress.tasks.inputs import pad, stack_labels
from compress.tasks.questions import best_span, overlap, plain
from compress.tasks.ragged import Ragged

TASK = Task(kind="questions", pair=True, max_length=20)


def answer(context, text):
    return {"text": [text], "answer_start": [context.index(text)]}


def rows():
    """Which word comes last, or which noun is it: the answer is in a context of two sentences."""
    pairs = zip(SENTENCES, SENTENCES[7:] + SENTENCES[:7], strict=True)
    contexts = [f"{a} and {b}" for a, b in pairs]
    return [
        {"question": "the film was", "context": context, "answers": answer(context, context.split()[1])}
        for context in contexts
    ]


def split(question, context, answers=None):
    columns = {"text": [question], "text_pair": [context]}
    return datasets.Dataset.from_dict(columns | ({"label": [answers]} if answers else {}))


def said(encoded, first, last, window=0, size=5.0):
    """Answers in which one span of one window stands out."""
    logits = [np.zeros((len(row["input_ids"]), 2)) for row in encoded.inputs]
    logits[window][first, 0] = logits[window][last, 1] = size
    return Ragged.of(logits)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_the_label_is_the_answers_first_and_last_token(family):
    tokenizer = trained_tokenizer(family)
    context = "the plot was astonishingly bright"
    task = TASK.model_copy(update={"max_length": 64})
    encoded = task.encode(split("the cast", context, answer(context, "astonishingly bright")), tokenizer)
    (first, last), ids = encoded.labels[0], encoded.inputs[0]["input_ids"]
    assert tokenizer.decode(ids[first : last + 1]).strip() == "astonishingly bright"
    assert task.metrics(said(encoded, first, last), encoded.targets) == {"f1": 100, "exact_match": 100}


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_space_around_an_answer_does_not_lose_it(family):
    context = "the plot was dull again"
    encoded, wide = (
        TASK.encode(split("the cast", context, answer(context, text)), trained_tokenizer(family))
        for text in ("dull", " dull ")
    )
    assert wide.labels.tolist() == encoded.labels.tolist() != [[0, 0]]


def test_a_long_context_is_read_in_windows_and_the_best_of_all_is_the_answer():
    tokenizer = trained_tokenizer("bert")
    context = " ".join(["the"] * 30 + ["dull", "plot"])
    encoded = TASK.encode(split("a", context, answer(context, "dull plot")), tokenizer)
    assert len(encoded.inputs) > 2
    assert max(len(row["input_ids"]) for row in encoded.inputs) == 20
    *without, (first, last) = encoded.labels.tolist()
    assert all(label == [0, 0] for label in without)
    window = len(encoded.inputs) - 1
    assert TASK.rules.decisions(said(encoded, first, last, window), encoded.targets).tolist() == ["dull plot"]
    elsewhere = said(encoded, first, last, 0)
    assert TASK.metrics(elsewhere, encoded.targets)["exact_match"] == 0


def test_a_question_as_long_as_the_input_leaves_room_for_the_context():
    tokenizer = trained_tokenizer("bert")
    encoded = TASK.encode(split(" ".join(["a"] * 50), "the plot", answer("the plot", "plot")), tokenizer)
    assert len(encoded.inputs) == 1
    assert encoded.labels[0].min() > 0


def test_the_best_span_ends_where_it_starts_or_later_and_is_short():
    start, end = np.zeros(60), np.zeros(60)
    start[50], end[2], end[55] = 9, 8, 4
    assert best_span(start, end, np.ones(60, bool)) == (13, 50, 55)
    start[50], start[3] = 0, 9  # 55 is more than 30 tokens later
    assert best_span(start, end, np.ones(60, bool))[:2] == (9, 3)
    allowed = np.arange(60) > 3
    assert best_span(start, end, allowed)[0] == 4


def test_no_answer_is_one_where_the_data_knows_it():
    tokenizer = trained_tokenizer("bert")
    context = "the plot was dull"
    none = {"text": [], "answer_start": []}
    data = datasets.concatenate_datasets(
        [split("a", context, answer(context, "dull")), split("a", context, none)]
    )
    encoded = TASK.encode(data, tokenizer)
    assert encoded.labels[1].tolist() == [0, 0]
    first, last = encoded.labels[0]
    answers = said(encoded, first, last)
    answers.values[answers.offsets[1]] = 3  # the first token of the second window
    assert TASK.rules.decisions(answers, encoded.targets).tolist() == ["dull", ""]
    assert TASK.metrics(answers, encoded.targets) == {"f1": 100, "exact_match": 100}


def test_squads_scores_by_hand():
    assert plain("The  Plot, of a film!") == "plot of film"
    # shared: good, plot; 2·2 / (3 + 4)
    assert overlap("the good old plot", "a plot so good, really") == pytest.approx(2 * 2 / (3 + 4))
    assert overlap("plot plot", "plot") == pytest.approx(2 * 1 / (2 + 1))
    assert (overlap("the", ""), overlap("plot", "")) == (1, 0)


def test_the_loss_is_of_start_and_end_over_the_tokens():
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]], [[5.0, 1.0], [1.0, 5.0]]], requires_grad=True)
    labels = torch.tensor([[0, 1], [-100, -100]])
    # start: log 2; end: -log(3/4); the second row has no label
    assert TASK.loss(logits, labels).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    nothing = TASK.loss(logits, torch.full_like(labels, -100))
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_neither_the_loss_nor_which_tokens_are_meant(tmp_path, side):
    task = TASK.model_copy(update={"max_length": 30})
    artifact = load(bare_model(tmp_path / "m"), task)
    artifact.tokenizer.padding_side = side
    context = "the plot was dull"
    rows = [split("the cast", text, answer(text, "dull")) for text in (context, f"{context} and very bright")]
    encoded = [task.encode(row, artifact.tokenizer) for row in rows]
    losses = []
    for some in ([encoded[0]], [encoded[1]], encoded):
        inputs = pad([one.inputs[0] for one in some], artifact.tokenizer)
        labels = stack_labels([one.labels[0] for one in some], task.labels_per_token, inputs)
        for row, (first, last) in enumerate(labels.tolist()):
            assert artifact.tokenizer.decode(inputs["input_ids"][row, first : last + 1]) == "dull"
        # The positions of a model that counts them from the padding are given, so that all but the padding is alike.
        places = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            losses.append(
                task.loss(task.answer(artifact.model(**inputs, position_ids=places), inputs), labels)
            )
    assert losses[2].item() == pytest.approx((losses[0] + losses[1]).item() / 2, rel=1e-5)


def test_squads_nesting_and_rows_are_the_same_data(tmp_path):
    listed = [
        row
        | {
            "answers": [
                {"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}
            ]
        }
        for row in rows()
    ]
    paragraphs = [
        {
            "context": row["context"],
            "qas": [{"id": str(n), "question": row["question"], "answers": row["answers"]}],
        }
        for n, row in enumerate(listed)
    ]
    nested = {"version": "1.1", "data": [{"title": "x", "paragraphs": paragraphs}]}
    (tmp_path / "squad.json").write_text(json.dumps(nested))
    write_jsonl(tmp_path / "a.jsonl", rows())
    write_jsonl(tmp_path / "b.jsonl", listed)
    found = [
        load_data(DataConfig(source=str(tmp_path / name))) for name in ("squad.json", "a.jsonl", "b.jsonl")
    ]
    assert {data.kind for data in found} == {"questions"}
    assert len({data.fingerprint for data in found}) == 1
    assert found[0].test[0]["label"]["text"][0] in NOUNS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": {"text": ["nowhere"], "answer_start": [0]}}, "'nowhere' does not stand at 0.*line 3"),
        ({"answers": {"text": ["a"], "answer_start": []}}, "equally long.*line 3"),
        ({"answers": "the"}, "no lists of text and answer_start.*line 3"),
        ({"context": " "}, "the context is empty.*line 3"),
    ],
)
def test_answers_that_do_not_fit_their_context_are_refused(tmp_path, change, message):
    broken = rows()
    broken[2] |= change
    with pytest.raises(InputError, match=message):
        load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", broken))))


def test_an_input_too_short_for_a_context_is_refused():
    task = TASK.model_copy(update={"max_length": 8})
    with pytest.raises(InputError, match="max_length 8 leaves no room"):
        task.encode(split("a", "the plot"), trained_tokenizer("bert"))


def test_the_whole_way(tmp_path):
    data = DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows())))
    artifact, found = whole_way(tmp_path, data, epochs=6, learning_rate=3e-3)
    assert type(artifact.model).__name__ == "BertForQuestionAnswering"
    file = found["02-export", "onnxruntime"]
    assert file.metric.name == "f1"
    assert set(file.metrics) == {"f1", "exact_match"}
    assert file.agreement_with_first == 100
