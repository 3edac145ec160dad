"""Splits that are read from disk are those that the task reads in memory."""

import datasets
import numpy as np
import pytest
import test_task_embedding
import test_task_multilabel
import test_task_questions
import test_task_tokens
from tiny_tasks import SENTENCES, write_jsonl
from tiny_tokenizers import trained_tokenizer

from compress.data import DataConfig, load_data, token_store
from compress.distillation.transfer import TransferPart, with_unlabelled
from compress.passes.finetune import task_of
from compress.tasks.kind import IGNORED
from compress.tasks.ragged import Ragged
from compress.training.tokenized import training_examples

ROWS = {
    "classification": lambda: [{"text": text, "label": text.split()[-1]} for text in SENTENCES],
    "regression": lambda: [{"text": text, "score": len(text) / 7} for text in SENTENCES],
    "multilabel": test_task_multilabel.rows,
    "tokens": test_task_tokens.rows,
    "questions": test_task_questions.rows,
    "embedding": test_task_embedding.rows,
    "language": lambda: [{"text": text} for text in SENTENCES],
}


@pytest.fixture(params=ROWS)
def read(request, tmp_path, monkeypatch, nothing_but_here):
    """Data of a kind, its task, a tokenizer, and the training split from disk."""
    monkeypatch.setattr(token_store, "_CHUNK", 7)
    data = load_data(
        DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", ROWS[request.param]())), task=request.param)
    )
    task, tokenizer = task_of(data, 16), trained_tokenizer("bert", SENTENCES, 60)
    return data, task, tokenizer, training_examples(data, tokenizer, task)


def test_inputs_and_labels_are_those_of_the_task(read):
    data, task, tokenizer, examples = read
    expected = task.encode(data.train, tokenizer)
    assert list(examples.inputs) == expected.inputs
    assert len(examples) == len(expected.labels) > 7
    assert examples.parts == expected.parts
    mine, same = (
        labels.values if isinstance(labels, Ragged) else labels
        for labels in (examples.labels, expected.labels)
    )
    assert isinstance(mine, np.memmap)
    assert mine.dtype == same.dtype
    np.testing.assert_array_equal(mine, same)
    np.testing.assert_array_equal(examples.labels[8], expected.labels[8])


def test_text_without_labels_says_nothing_unless_it_is_its_own(read):
    data, task, tokenizer, examples = read
    kept = [name for name in data.train.column_names if name.startswith("text")]
    more = datasets.Dataset.from_dict({name: data.train[name][:5] for name in kept})
    both = with_unlabelled(examples, [TransferPart(more, "more")], tokenizer, task)
    unknown = np.concatenate([np.ravel(both.labels[i]) for i in range(len(examples), len(both))])
    assert len(unknown)
    if task.kind == "language":
        assert unknown.tolist() == task.encode(more, tokenizer).labels.values.tolist()
        assert (unknown != IGNORED).any()
    else:
        assert ((unknown == IGNORED) | np.isnan(unknown)).all()
