"""Tokens of two tokenizers that stand for the same characters."""

from types import SimpleNamespace

import datasets
import pytest
import torch
from tiny_models import tiny_tokenizer
from tiny_tokenizers import trained_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from compress.distillation.alignment import align, take, take_answers, to_front
from compress.distillation.counterparts import BEGINS, ENDS, NOWHERE, SAME
from compress.distillation.transfer import Joined, TransferPart
from compress.errors import InputError
from compress.tasks import Task
from compress.training.tokenized import vocabulary

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


def readers(task, *tokenizers):
    manifest = SimpleNamespace(source=None)
    return [SimpleNamespace(tokenizer=each, task=task, manifest=manifest) for each in tokenizers]


def aligned(data, teacher, student, task=TASK, wanted=SAME, row=0):
    part = TransferPart(data, repr(data[0]))
    return align([part], *readers(task, teacher, student)).positions(wanted)[row].tolist()


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
    one, other = tiny_tokenizer(), tiny_tokenizer()
    other.add_tokens(["sequel"])
    # [CLS] good film [SEP] good [SEP]; a separator in the middle is nobody's counterpart.
    assert aligned(texts("good film", "good"), one, other) == [0, 1, 2, NOWHERE, 4, 5]


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("mistral", ("<s>", None)),
        ("t5", (None, "</s>")),
        ("roberta", ("<s>", "</s>")),
        ("gpt2", (None, None)),
    ],
)
@pytest.mark.parametrize("pair", [(), ("the plot was dull",)])
def test_a_special_token_answers_to_the_one_on_its_own_side_of_the_text(family, ends, pair):
    # Llama's and Mistral's stands in front alone, T5's behind each text alone.
    data, teacher = texts("this film was dull", *pair), trained_tokenizer(family)
    found = aligned(data, teacher, trained_tokenizer("bert"))
    theirs = teacher(*([text] for text in data[0].values()))["input_ids"][0]
    named = [
        None if p == NOWHERE else teacher.convert_ids_to_tokens(theirs[p]) for p in (found[0], found[-1])
    ]
    assert tuple(named) == ends
    assert found[-1] in (NOWHERE, len(theirs) - 1)


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


def test_a_words_tag_is_that_of_its_first_piece_whatever_the_pieces():
    task = Task(kind="tokens", labels=("x", "y"))
    data = datasets.Dataset.from_dict({"text": ["good film"], "tokens": [["good", "film"]]})
    # g o o d ␣ f i l m: letters have no piece in common with words, but a word's first piece carries its tag, which is
    # the space where it counts to the word.
    assert aligned(data, letters(), tiny_tokenizer(), task, BEGINS) == [NOWHERE, 0, 4, NOWHERE]
    assert aligned(data, letters(), tiny_tokenizer(), task, ENDS) == [NOWHERE, 3, 8, NOWHERE]


QUESTIONS = Task(kind="questions", pair=True, max_length=16)


def question(context):
    return datasets.Dataset.from_dict({"text": ["the film"], "text_pair": [context]})


def test_spans_of_questions_begin_and_end_at_the_same_characters():
    wordpiece, bytewise = trained_tokenizer("bert"), trained_tokenizer("roberta")
    task = QUESTIONS.model_copy(update={"max_length": 64})
    data = question("the plot was astonishingly bright")
    ours, theirs = (task.rules.spans(data, each)[0].spans for each in (wordpiece, bytewise))
    for wanted, end in ((BEGINS, 1), (ENDS, 2)):
        found = aligned(data, bytewise, wordpiece, task, wanted)
        assert found[0] == 0  # "no answer" is the first special token of either
        words = [(i, place) for i, place in enumerate(found[1:-1], 1) if place != NOWHERE]
        assert len(words) >= 7  # two words of the question and five of the context
        assert all(
            ours[i][0] == theirs[place][0] and ours[i][end] == theirs[place][end] for i, place in words
        )


def words(window):
    return {span[:2] for span in window.spans if span and span[1] < span[2]}


def test_the_windows_of_two_tokenizers_meet_where_they_read_the_same():
    context = " ".join(f"the plot was {word}" for word in ("dull", "bright", "good", "unwatchable") * 3)
    data, tokenizers = question(context), (trained_tokenizer("roberta"), trained_tokenizer("bert"))
    theirs, ours = (QUESTIONS.rules.spans(data, each) for each in tokenizers)
    assert len(theirs) != len(ours)
    part = TransferPart(data, "windows")
    # A column of the teacher's that tells its part, by hundreds, and its input.
    numbers = Joined([[100 * number + i for i in range(len(theirs))] for number in (0, 1)], [len(theirs)] * 2)
    alignment = align([part, part], *readers(QUESTIONS, *tokenizers))
    moved, begins_at = alignment.by_input(numbers), alignment.positions(BEGINS)
    for place, window in enumerate(ours * 2):
        number, source = divmod(moved[place], 100)
        assert number == place // len(ours)
        begins = words(window)
        common = [len(begins & words(each)) for each in theirs]
        assert common[source] == max(common)
        found = begins_at[place].tolist()
        shared = [(i, j) for i, j in enumerate(found) if j != NOWHERE and window.spans[i]]
        assert len(shared) == max(common)
        assert all(window.spans[i][:2] == theirs[source].spans[j][:2] for i, j in shared)


def test_masked_words_need_one_tokenizer():
    with pytest.raises(InputError, match="tell different words.*Take a student with the teacher's tokenizer"):
        aligned(texts("good film"), tiny_tokenizer(), letters(), Task(kind="language"))


def test_a_tokenizer_is_the_same_after_it_was_used():
    tokenizer = trained_tokenizer("bert")
    before = vocabulary(tokenizer)
    tokenizer(["the plot"], truncation=True, max_length=8, padding=True)
    assert vocabulary(tokenizer) == before
    tokenizer.add_tokens(["sequel"])
    assert vocabulary(tokenizer) != before


def test_where_a_tokenizer_cuts_is_its_own():
    one, other = tiny_tokenizer(), tiny_tokenizer()
    other.truncation_side = "left"
    assert vocabulary(one) != vocabulary(other)
    short = TASK.model_copy(update={"max_length": 4})
    # [CLS] the good [SEP] against [CLS] good film [SEP].
    assert aligned(texts("the good film"), other, one, short) == [0, NOWHERE, 1, 3]


def test_lengths_may_differ():
    part = TransferPart(texts("the good film plot"), "lengths")
    teacher, student = (
        readers(TASK.model_copy(update={"max_length": length}), tiny_tokenizer())[0] for length in (4, 8)
    )
    # The teacher reads [CLS] the good [SEP].
    found = align([part], teacher, student).positions(SAME)[0]
    assert found.tolist() == [0, 1, 2, NOWHERE, NOWHERE, 3]


def test_answers_are_taken_to_the_students_tokens():
    answers = torch.arange(1 * 3 * 2.0).view(1, 3, 2)
    begins_and_ends = torch.tensor([[[2, 0], [NOWHERE, 1]]])
    taken = take_answers(answers, begins_and_ends)
    assert taken[0, 0].tolist() == [4, 1]
    assert taken[0, 1, 1] == 3
    assert taken[0, 1, 0].isnan()
    assert torch.equal(take_answers(answers, torch.tensor([[[1]]])), answers[:, [1]])


def test_padding_in_front_goes_behind():
    values = torch.tensor([[[9.0], [1.0], [2.0]], [[3.0], [4.0], [5.0]]])
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    moved = to_front(values, mask, 1)
    assert moved[0, :2, 0].tolist() == [1, 2]
    assert torch.equal(moved[1], values[1])
    assert torch.equal(to_front(values, torch.ones(2, 3), 1), values)
