"""Tokens of two tokenizers that stand for the same characters."""

from types import SimpleNamespace

import datasets
import pytest
import torch
from tiny_models import tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from compress.distillation.alignment import NOWHERE, align_tokens, take, to_front
from compress.distillation.transfer import TransferPart
from compress.errors import InputError
from compress.tasks import Task

TASK = Task(kind="classification", labels=("a", "b"))


def letters():
    """One token a character; white space is part of the text."""
    vocabulary = {"[UNK]": 0, "[PAD]": 1} | {
        letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz ", 2)
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


def byte_level():
    """Words with the space before them, as in GPT-2."""
    vocabulary = {"[UNK]": 0, "[PAD]": 1, "the": 2, "Ġgood": 3, "Ġfil": 4, "m": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


def texts(*pair):
    columns = {"text": [pair[0]]} | ({"text_pair": [pair[1]]} if len(pair) > 1 else {})
    return datasets.Dataset.from_dict(columns)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))


def aligned(data, teacher, student, task=TASK):
    part = TransferPart(data, repr(data[0]))
    readers = (SimpleNamespace(tokenizer=tokenizer, task=task) for tokenizer in (teacher, student))
    return align_tokens([part], *readers)[0].tolist()


def test_one_tokenizer_aligns_with_itself():
    same = tiny_tokenizer()
    assert aligned(texts("the good film"), same, same) == [0, 1, 2, 3, 4]


def test_white_space_that_one_counts_to_a_piece_is_left_aside():
    # Teacher: the, Ġgood, Ġfilm (unknown, but one piece). Student: [CLS] the good film [SEP].
    assert aligned(texts("the good film"), byte_level(), tiny_tokenizer()) == [NOWHERE, 0, 1, 2, NOWHERE]


def test_pieces_without_a_counterpart_are_nowhere():
    # Of the letters only the words of one letter are tokens of the other: "a" stands first.
    found = aligned(texts("a film a a"), tiny_tokenizer(), letters())
    # a ␣ f i l m ␣ a ␣ a: white space is a piece without characters.
    assert [place for place in found if place != NOWHERE][:1] == [1]
    assert found[2:6] == [NOWHERE] * 4


def test_each_text_of_a_pair_aligns_with_its_own():
    one, other = tiny_tokenizer(), tiny_tokenizer(types=True)
    # [CLS] good film [SEP] good [SEP]; a separator in the middle is nobody's counterpart.
    assert aligned(texts("good film", "good"), one, other) == [0, 1, 2, NOWHERE, 4, 5]


def test_tokenizers_with_too_little_in_common_are_refused():
    with pytest.raises(InputError, match="split text differently: 0% .*Match `sentence`"):
        aligned(texts("film plot cast"), tiny_tokenizer(), letters())


def test_signals_are_taken_to_the_students_tokens():
    values = torch.arange(2 * 3 * 2).view(2, 3, 2)
    positions = torch.tensor([[2, 0], [1, NOWHERE]])
    taken = take(values, positions, 1)
    assert torch.equal(taken[0], values[0, [2, 0]])
    assert torch.equal(taken[1, 0], values[1, 1])
    maps = torch.arange(2 * 4 * 3 * 3).view(2, 4, 3, 3)
    square = take(maps, positions, 2)
    assert square.shape == (2, 4, 2, 2)
    assert torch.equal(square[0], maps[0][:, [2, 0]][:, :, [2, 0]])


def test_words_that_were_given_apart_align_by_word():
    task = Task(kind="tokens", labels=("x", "y"))
    data = datasets.Dataset.from_dict({"text": ["good film"], "tokens": [["good", "film"]]})
    # The byte-level one reads " film" as Ġfilm, unknown but one piece; letters split words, and share only their own.
    assert aligned(data, byte_level(), tiny_tokenizer(), task) == [NOWHERE, 0, 1, NOWHERE]


def test_spans_of_questions_need_one_tokenizer():
    with pytest.raises(InputError, match="questions needs teacher and student with one tokenizer"):
        aligned(
            datasets.Dataset.from_dict({"text": ["who"], "text_pair": ["good film"]}),
            tiny_tokenizer(),
            letters(),
            Task(kind="questions"),
        )


def test_padding_in_front_goes_behind():
    values = torch.tensor([[[9.0], [1.0], [2.0]], [[3.0], [4.0], [5.0]]])
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    moved = to_front(values, mask, 1)
    assert moved[0, :2, 0].tolist() == [1, 2]
    assert torch.equal(moved[1], values[1])
    assert torch.equal(to_front(values, torch.ones(2, 3), 1), values)
