"""Hidden words: what is hidden, scores by hand, and the whole way from raw lines to a file and to another head."""

import math

import datasets
import numpy as np
import pytest
import torch
from tiny_models import tiny_artifact, tiny_model, tiny_tokenizer
from tiny_tasks import SENTENCES, bare_model, train
from tiny_tokenizers import trained_tokenizer

from compress.artifact import load, read_manifest, save
from compress.data import DataConfig, load_data
from compress.distillation.student import make_student
from compress.distillation.teacher import Teacher
from compress.distillation.teachers import Teachers
from compress.distillation.transfer import TransferPart
from compress.errors import InputError
from compress.passes.base import ModelPlan
from compress.passes.distill import Distill
from compress.passes.finetune import Finetune
from compress.tasks import Task
from compress.tasks.evaluate import evaluate
from compress.tasks.ragged import Ragged

TASK = Task(kind="language", max_length=24)


def lines(tmp_path):
    (tmp_path / "raw.txt").write_text("\n\n".join(SENTENCES) + "\n")
    return DataConfig(source=str(tmp_path / "raw.txt"))


def test_lines_of_a_text_file_are_raw_text(tmp_path):
    data = load_data(lines(tmp_path))
    assert (data.kind, data.labels, data.pair) == ("language", (), False)
    assert data.train.column_names == ["text"]
    assert sorted([*data.train["text"], *data.validation["text"], *data.test["text"]]) == sorted(SENTENCES)


def test_labelled_text_is_raw_text_where_that_is_asked_for(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"{text},{text[-1]}\n" for text in SENTENCES))
    data = load_data(DataConfig(source=str(tmp_path / "x.csv"), task="language"))
    assert (data.kind, data.train.column_names) == ("language", ["text"])


def test_columns_of_words_and_tags_are_no_raw_text(tmp_path):
    (tmp_path / "x.txt").write_text("".join(f"EU{n} NNP B-ORG\nwon VBD O\n\n" for n in range(20)))
    assert load_data(DataConfig(source=str(tmp_path / "x.txt"))).kind == "tokens"


def test_words_are_hidden_as_bert_hides_them():
    tokenizer = trained_tokenizer("bert")
    words, generator = "the plot was dull and bright".split() * 5, np.random.default_rng(0)
    texts = [" ".join(generator.permutation(words)) for _ in range(400)]
    task = TASK.model_copy(update={"max_length": 64})
    data = datasets.Dataset.from_dict({"text": texts})
    encoded = task.encode(data, tokenizer)
    plain = np.array(tokenizer(texts, truncation=True, max_length=64)["input_ids"])
    ids = np.array([row["input_ids"] for row in encoded.inputs])
    labels = encoded.labels.values.reshape(ids.shape)
    hidden = labels != -100
    assert (labels[hidden] == plain[hidden]).all()
    assert (ids[~hidden] == plain[~hidden]).all()
    assert not hidden[:, [0, -1]].any()  # special tokens are never hidden
    assert (hidden.sum(1) == round(0.15 * (plain.shape[1] - 2))).all()
    masked = (ids[hidden] == tokenizer.mask_token_id).mean()
    # at least 400 · 4 draws: a standard deviation of 0.01
    assert masked == pytest.approx(0.8, abs=0.05)
    assert (ids[hidden] == labels[hidden]).mean() == pytest.approx(0.1, abs=0.04)
    assert not np.array_equal(hidden[0], hidden[1])
    again = task.encode(data, tokenizer)
    assert again.inputs == encoded.inputs


def test_a_part_of_the_data_hides_what_the_whole_does():
    # The teacher reads its text in parts, and the student all at once.
    data = datasets.Dataset.from_dict({"text": SENTENCES})
    tokenizer = trained_tokenizer("bert")
    whole = TASK.encode(data, tokenizer).inputs
    part = TASK.encode(data.select(range(3, len(SENTENCES))), tokenizer).inputs
    assert [row["input_ids"] for row in part] == [row["input_ids"] for row in whole][3:]


def test_scores_by_hand():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)], [9.0, 9.0]])
    labels = torch.tensor([1, 0, -100])
    condensed = TASK.rules.condense(logits, labels)
    torch.testing.assert_close(condensed, torch.tensor([[math.log(3 / 4), 1], [math.log(1 / 4), 0], [0, 0]]))
    found = TASK.metrics(Ragged.of([condensed.numpy()]), Ragged.of([labels.numpy()]))
    assert found["accuracy"] == 50
    assert found["perplexity"] == pytest.approx((4 / 3 * 4) ** 0.5)  # exp of the mean of log 4/3 and log 4
    assert TASK.loss(logits[None], labels[None]).exp().item() == pytest.approx(found["perplexity"])


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(InputError, match="no mask token"):
        TASK.encode(datasets.Dataset.from_dict({"text": ["a"]}), tiny_tokenizer())


def test_the_whole_way(tmp_path):
    config = lines(tmp_path)
    trained, exported = train(bare_model(tmp_path / "bare"), config, tmp_path, epochs=2)
    artifact, again = load(trained), load(exported)
    assert type(artifact.model).__name__ == "BertForMaskedLM"
    batch = dict(artifact.tokenizer(SENTENCES[:3], padding=True, return_tensors="pt"))
    with torch.inference_mode():
        assert torch.equal(artifact.model(**batch).logits, again.model(**batch).logits)
    recorded = read_manifest(trained).history[-1].after
    assert recorded == evaluate(artifact, load_data(config).validation)
    assert (exported / "onnx" / "model.onnx").is_file()
    # what it learned is a start for another task
    labelled = load(str(trained), Task(kind="classification", labels=("a", "b")))
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(labelled.model.state_dict()[name], artifact.model.state_dict()[name])


def test_a_family_without_a_head_for_masked_words_is_refused_before_anything_runs(tmp_path):
    data = load_data(lines(tmp_path))
    plan = ModelPlan(tiny_model("gpt2").config, None, data, place="passes[0]")
    Finetune().check(plan)
    assert plan.errors[0].startswith("passes[0]: model: gpt2 models have no head for the task language. Give")
    save(tiny_artifact(tiny_model("gpt2")).evolve(task=None), tmp_path / "gpt2")
    with pytest.raises(InputError, match="gpt2 models have no head for the task language"):
        load(tmp_path / "gpt2", Task(kind="language"))


def test_vocabularies_of_another_size_are_refused_before_anything_runs(tmp_path):
    data = load_data(lines(tmp_path))
    task = Task(kind="language")
    plan = ModelPlan(tiny_model("bert").config, task, data, place="passes[0]")
    Distill(student="new:vocab_size=28").check(plan)
    assert "the teacher answers 20 numbers for a word, the student 28" in plan.errors[0]
    plan = ModelPlan(plan.config, task, data, [(tiny_model("bert").config, task)], place="passes[1]")
    Distill(teacher="step:1").check(plan)
    assert "teacher step:1: the teacher answers 20 numbers for a word, the student 28" in plan.errors[0]
    artifact = tiny_artifact(tiny_model("bert"))
    artifact = artifact.evolve(task=task)
    wide = artifact.evolve(model=make_student("new:vocab_size=28", artifact).model)
    with (
        pytest.raises(InputError, match="answers 20 numbers for a word, the student 28"),
        Teachers([Teacher(artifact, "a", False)], [1]).live(
            [TransferPart(data.train, data.fingerprint)], wide, set()
        ),
    ):
        pass
