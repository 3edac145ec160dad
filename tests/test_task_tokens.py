"""A tag for every word: how pieces and words align, scores worked by hand, and the whole way to a file."""

import math

import datasets
import numpy as np
import pytest
import torch
from tiny_tasks import GOOD, NOUNS, SENTENCES, bare_model, whole_way, write_jsonl
from tiny_tokenizers import trained_tokenizer

from compress.artifact import load
from compress.data import DataConfig, load_data
from compress.data.packaged import _brown, read_conll2003
from compress.errors import InputError
from compress.tasks import Task
from compress.tasks.evaluate import predict
from compress.tasks.ragged import Ragged
from compress.training.examples import Collator, Examples

POS = Task(kind="tokens", labels=("d", "n"), max_length=12)
NER = Task(kind="tokens", labels=("O", "B-X", "I-X", "B-Y"))


def tag_of(word):
    return "B-THING" if word in NOUNS else "B-PRAISE" if word in GOOD else "O"


def rows():
    return [
        {"tokens": text.split(), "ner_tags": [tag_of(word) for word in text.split()]} for text in SENTENCES
    ]


def split(tokens, labels=None):
    columns = {"text": [" ".join(row) for row in tokens], "tokens": tokens}
    return datasets.Dataset.from_dict(columns | ({"label": labels} if labels else {}))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_the_first_piece_of_a_word_carries_its_tag(family):
    tokenizer = trained_tokenizer(family)
    words = ["watchablest", "watchablest", "a"]
    encoded = POS.model_copy(update={"max_length": 60}).encode(split([words], [[1, 0, 1]]), tokenizer)
    ids, labels = encoded.inputs[0]["input_ids"], encoded.labels[0]
    alone = tokenizer(" ".join(words))["input_ids"]
    assert ids == alone  # words are read as they are in running text
    first, second, third = np.flatnonzero(labels != -100)
    assert labels[[first, second, third]].tolist() == [1, 0, 1]
    assert tokenizer.decode(ids[first:second]).strip() == "watchablest"
    assert tokenizer.decode(ids[second:third]).strip() == "watchablest"
    assert second - first > 1


def test_words_beyond_the_cut_are_wrong_and_not_forgotten():
    tokenizer = trained_tokenizer("bert")
    words = [["the"] * 20, ["the"]]
    encoded = POS.encode(split(words, [[1] * 20, [1]]), tokenizer)
    assert len(encoded.inputs[0]["input_ids"]) == 12
    answers = Ragged.of([np.tile([0.0, 1.0], (len(row["input_ids"]), 1)) for row in encoded.inputs])
    # ten of twenty words fit between the two special tokens, and one of one
    assert POS.metrics(answers, encoded.targets)["accuracy"] == pytest.approx(100 * 11 / 21)
    assert POS.rules.ratio(answers, encoded.targets).tolist() == [[10, 20], [1, 1]]
    assert POS.rules.decisions(answers, encoded.targets).tolist() == [1] * 10 + [-1] * 10 + [1]


def test_entities_are_right_only_as_a_whole():
    tokenizer = trained_tokenizer("bert")
    words = [["the", "plot", "was"], ["dull", "the"]]
    tags = [[1, 2, 0], [3, 0]]  # X over two words; Y
    encoded = NER.encode(split(words, tags), tokenizer)
    given = [[1, 0, 0], [3, 1]]  # X too short; Y right; an X too many
    answers = []
    for row, (starts, ids) in enumerate(zip(encoded.targets.pieces, given, strict=True)):
        logits = np.zeros((len(encoded.inputs[row]["input_ids"]), 4))
        logits[starts, ids] = 1
        answers.append(logits)
    scores = NER.metrics(Ragged.of(answers), encoded.targets)
    # three given, two true, one right
    assert scores["precision"] == pytest.approx(100 / 3)
    assert scores["recall"] == pytest.approx(50)
    assert scores["f1"] == pytest.approx(100 * 2 / 5)
    assert scores["accuracy"] == pytest.approx(100 * 3 / 5)
    ratio = NER.rules.ratio(Ragged.of(answers), encoded.targets)
    assert ratio.tolist() == [[0, 2], [2, 3]]
    assert 100 * ratio[:, 0].sum() / ratio[:, 1].sum() == pytest.approx(scores["f1"])
    assert (NER.main_metric, POS.main_metric) == ("f1", "accuracy")


def test_the_loss_is_the_mean_over_labelled_tokens():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]], [[7.0, 1.0], [1.0, 7.0]]], requires_grad=True)
    labels = torch.tensor([[0, 0], [-100, -100]])
    # log 2, and -log(3/4); the second row is not labelled
    assert POS.loss(logits, labels).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    nothing = POS.loss(logits, torch.full_like(labels, -100))
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_are_padded_on_the_tokenizers_side(side):
    tokenizer = trained_tokenizer("bert")
    tokenizer.padding_side = side
    encoded = POS.encode(split([["the", "plot"], ["a"]], [[0, 1], [1]]), tokenizer)
    examples = Examples(encoded.inputs, encoded.labels)
    batch = Collator(tokenizer, True, {})([examples[0], examples[1]])
    assert batch["labels"].shape == batch["input_ids"].shape
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert batch["labels"][1][batch["labels"][1] != -100].tolist() == [1]


def test_answers_have_no_padding_and_come_in_the_datas_order(tmp_path):
    artifact = load(bare_model(tmp_path / "m"), POS)
    encoded = POS.encode(split([["a"], ["the", "plot", "was"], ["dull", "plot"]]), artifact.tokenizer)
    together = predict(artifact.model, encoded.inputs, artifact.tokenizer, POS, 2)
    lengths = [len(row["input_ids"]) for row in encoded.inputs]
    assert together.values.shape == (sum(lengths), 2)
    for row, one in enumerate(encoded.inputs):
        alone = predict(artifact.model, [one], artifact.tokenizer, POS, 1)
        np.testing.assert_allclose(together[row], alone[0], atol=1e-6)


def test_text_without_tags_is_encoded_with_none():
    tokenizer = trained_tokenizer("bert")
    for columns in ({"text": ["the plot"]}, {"text": ["the plot"], "tokens": [["the", "plot"]]}):
        encoded = POS.encode(datasets.Dataset.from_dict(columns), tokenizer)
        assert (encoded.labels[0] == -100).all()


def test_a_tokenizer_that_is_not_fast_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="which word a piece belongs to.*fast tokenizer"):
        POS.encode(split([["a"]], [[0]]), Slow())


def test_lists_of_words_and_tags_are_found(tmp_path):
    data = load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows()))))
    assert (data.kind, data.labels) == ("tokens", ("O", "B-PRAISE", "B-THING"))
    for row in data.test:
        assert row["text"].split() == row["tokens"]
        assert [data.labels[number] for number in row["label"]] == [tag_of(word) for word in row["tokens"]]


def test_class_names_of_saved_tags_are_kept(tmp_path):
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "pos_tags": datasets.List(datasets.ClassLabel(names=["Z", "A"])),
        }
    )
    columns = {"tokens": [["a", "b"]] * 20, "pos_tags": [[0, 1]] * 20}
    columns["tokens"] = [["a", str(n)] for n in range(20)]
    saved = datasets.Dataset.from_dict(columns, features=features)
    saved.save_to_disk(tmp_path / "saved")
    saved.to_parquet(tmp_path / "x.parquet")
    for source in (tmp_path / "saved", tmp_path / "x.parquet"):
        data = load_data(DataConfig(source=str(source)))
        assert data.labels == ("Z", "A")
        assert data.test["label"][0] == [0, 1]


def test_a_conll_file_is_read(tmp_path):
    block = "-DOCSTART- -X- O\n\n# a comment\nEU NNP B-ORG\nwon{} VBD O\n\n"
    (tmp_path / "x.conll").write_text("".join(block.format(number) for number in range(20)))
    data = load_data(DataConfig(source=str(tmp_path / "x.conll")))
    assert data.labels == ("O", "B-ORG")
    assert data.test["tokens"][0][0] == "EU"
    assert data.test["label"][0] == [1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ner_tags": ["O"]}, "4 words but 1 tags.*line 3"),
        ({"tokens": ["a", " ", "b", "c"]}, "no list of words.*line 3"),
        ({"tokens": "a b c d"}, "no list of words.*line 3"),
        ({"tokens": [], "ner_tags": []}, "0 words.*line 3"),
    ],
)
def test_tags_that_do_not_fit_their_words_are_refused(tmp_path, change, message):
    broken = rows()
    broken[2] |= change
    with pytest.raises(InputError, match=message):
        load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", broken))))


def test_another_task_than_the_models_is_refused(tmp_path):
    data = load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows()))))
    with pytest.raises(InputError, match="task is classification, the data poses tokens"):
        data.aligned(Task(kind="classification", labels=("a", "b")))


def test_brown_is_cut_the_same_way_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr("compress.data.packaged._BROWN_ROWS", {"test": 2, "validation": 1, "train": 3})
    (tmp_path / "ca01").write_text("".join(f"word{number}/nn\n" for number in range(10)), "latin-1")
    tables = _brown(tmp_path)
    assert {name: table.rows for name, table in tables.items()} == {"test": 2, "validation": 1, "train": 3}
    words = [row[0] for table in tables.values() for row in table.columns["tokens"]]
    assert len(set(words)) == 6
    assert tables["test"].columns["tokens"] == _brown(tmp_path)["test"].columns["tokens"]


def test_conll2003_is_published_data(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text("EU NNP B-NP B-ORG\n")
    assert not read_conll2003(tmp_path)["test"].editable


def test_the_whole_way(tmp_path):
    data = DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows())))
    artifact, found = whole_way(tmp_path, data, epochs=8, learning_rate=3e-3)
    assert type(artifact.model).__name__ == "BertForTokenClassification"
    assert artifact.model.config.id2label[1] == "B-PRAISE"
    file = found["02-export", "onnxruntime"]
    assert file.metric.name == "f1"
    assert file.metric.value > 90
    assert file.agreement_with_first == 100
