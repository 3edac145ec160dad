"""Sentence vectors: pooling and loss worked by hand, pairs as examples, the whole way to a file, and the probe."""

import dataclasses
import math

import datasets
import numpy as np
import pytest
import torch
from tiny_tasks import SENTENCES, bare_model, whole_way, write_jsonl
from tiny_tokenizers import trained_tokenizer

from compress.artifact import load
from compress.data import DataConfig, load_data
from compress.errors import InputError
from compress.tasks import Task
from compress.tasks.evaluate import predict
from compress.tasks.probe import probe
from compress.tasks.ragged import Ragged
from compress.training.examples import Collator, Examples

TASK = Task(kind="embedding", max_length=16)


def rows():
    """Pairs of sentences with the number of words that they share in the same place, 0 to 4, as the score."""
    pairs = zip(SENTENCES, SENTENCES[7:] + SENTENCES[:7], strict=True)
    return [
        {
            "sentence1": a,
            "sentence2": b,
            "score": sum(x == y for x, y in zip(a.split(), b.split(), strict=True)) + 0.5,
        }
        for a, b in pairs
    ]


def config(tmp_path, task="embedding"):
    return DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows())), task=task)


class Output:
    last_hidden_state = torch.tensor(
        [[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]], [[0.0, 2.0], [0.0, 1.0], [0.0, 0.0]]]
    )


def test_a_vector_is_the_mean_over_tokens_of_length_one():
    vectors = TASK.answer(Output, {"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])})
    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))  # (3/2, 2) is 2.5 long


def test_a_files_hidden_states_are_pooled_alike():
    outputs = Ragged.of([Output.last_hidden_state[0, :2].numpy(), Output.last_hidden_state[1].numpy()])
    np.testing.assert_allclose(TASK.rules.from_outputs(outputs), [[0.6, 0.8], [0, 1]])


def test_the_loss_is_of_the_pairs_that_have_a_score():
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    # cosines 0.6 and 0
    assert TASK.loss(vectors, torch.tensor([1.0, 0.5])).item() == pytest.approx((0.4**2 + 0.5**2) / 2)
    assert TASK.loss(vectors, torch.tensor([1.0, math.nan])).item() == pytest.approx(0.4**2)
    for labels in ([math.nan] * 2, [math.nan] * 4):  # pairs, single texts
        nothing = TASK.loss(vectors, torch.tensor(labels))
        nothing.backward()
        assert nothing.item() == 0
        assert not vectors.grad.any()


def test_scores_are_scaled_to_what_a_cosine_can_be(tmp_path):
    data = load_data(config(tmp_path))
    scores = [score for name in ("train", "validation", "test") for score in getattr(data, name)["label"]]
    assert (data.kind, min(scores), max(scores)) == ("embedding", 0, 1)
    assert "similarity: scores from 0.5 to 2.5, scaled to 0 to 1" in data.notes
    assert load_data(config(tmp_path, None)).kind == "regression"


def test_the_two_texts_of_a_pair_are_rows_beside_each_other():
    split = datasets.Dataset.from_dict(
        {"text": ["the plot", "a"], "text_pair": ["a film", "the cast was dull"], "label": [0.5, 1.0]}
    )
    tokenizer = trained_tokenizer("bert", SENTENCES)
    encoded = TASK.encode(split, tokenizer)
    examples = Examples(encoded.inputs, encoded.labels, encoded.parts)
    batch = Collator(tokenizer, False, {})([examples[0], examples[1]])
    assert batch["labels"].tolist() == [0.5, 1.0]
    texts = tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert texts == ["the plot", "a film", "a", "the cast was dull"]


def test_single_texts_have_vectors_and_no_labels(tmp_path):
    encoded = TASK.encode(datasets.Dataset.from_dict({"text": ["a", "the plot"]}), trained_tokenizer("bert"))
    assert encoded.parts == 1
    assert np.isnan(encoded.labels).all()


def test_single_texts_are_no_data_to_train_on(tmp_path):
    rows = [{"text": text, "label": number / 7} for number, text in enumerate(SENTENCES)]
    source = write_jsonl(tmp_path / "y.jsonl", rows)
    with pytest.raises(InputError, match="pairs of texts with a score"):
        load_data(DataConfig(source=str(source), task="embedding"))


def test_the_whole_way(tmp_path):
    artifact, found = whole_way(tmp_path, config(tmp_path), epochs=4)
    assert artifact.model.base_model is artifact.model
    file, model = found["02-export", "onnxruntime"], found["01-finetune", "torch"]
    assert file.metric.name == "spearman"
    assert file.agreement_with_first == pytest.approx(1, abs=1e-6)
    data = load_data(config(tmp_path))
    inputs = artifact.task.encode(data.test, artifact.tokenizer)
    vectors = predict(artifact.model, inputs.inputs, artifact.tokenizer, artifact.task)
    expected = artifact.task.metrics(vectors, inputs.targets)["spearman"]
    assert model.metric.value == pytest.approx(expected, abs=1e-6)
    # the encoder may get the head of another task
    labelled = load(str(tmp_path / "01-finetune"), Task(kind="classification", labels=("a", "b")))
    assert type(labelled.model).__name__ == "BertForSequenceClassification"


def test_a_frozen_encoder_is_scored_on_pairs_and_classes(tmp_path):
    encoder = load(bare_model(tmp_path / "bare"))
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    pairs = probe(encoder, load_data(config(tmp_path, None)))
    assert -1 <= pairs[f"{tmp_path / 'x.jsonl'} spearman"] <= 1
    classes = [{"text": text, "label": "film" if "film" in text else "other"} for text in SENTENCES]
    source = str(write_jsonl(tmp_path / "y.jsonl", classes))
    assert probe(encoder, load_data(DataConfig(source=source)))[f"{source} accuracy"] > 60
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.model.state_dict().items())


def test_training_texts_sorted_by_class_are_drawn_by_lot(tmp_path, monkeypatch):
    monkeypatch.setattr("compress.tasks.probe.TRAIN_ROWS", 30)
    encoder = load(bare_model(tmp_path / "bare"))
    texts = sorted(SENTENCES, key=lambda text: "film" in text)
    splits = {
        "train": [{"text": text, "label": "film" if "film" in text else "other"} for text in texts],
        "test": [{"text": text, "label": "other"} for text in texts[:10]],
    }
    (tmp_path / "d").mkdir()
    for name, rows in splits.items():
        write_jsonl(tmp_path / "d" / f"{name}.jsonl", rows)
    data = load_data(DataConfig(source=str(tmp_path / "d")))
    assert probe(encoder, data)
    one = dataclasses.replace(data, train=data.train.filter(lambda row: row["label"] == 0))
    with pytest.raises(InputError, match="all of one class"):
        probe(encoder, one)


def test_a_model_with_a_head_is_no_encoder_to_probe(tmp_path):
    model = load(bare_model(tmp_path / "bare"), Task(kind="classification", labels=("a", "b")))
    with pytest.raises(InputError, match="has a head for classification"):
        probe(model, load_data(config(tmp_path, None)))
