"""New texts from given ones: what each method does, and that seed and text alone decide it."""

from pathlib import Path
from random import Random

import datasets
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tiny_configs import SIZE, TUNED, depth
from tiny_models import WORDS, tiny_model, tiny_tokenizer
from tiny_tokenizers import SENTENCES, trained_tokenizer
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from compress.data.augmentation import (
    AnyAugmentation,
    BackTranslation,
    MaskedWords,
    NearTexts,
    NeighbourWords,
    SentenceShuffle,
    SpanCrop,
    SpanDeletion,
    SpanMix,
    WordSwap,
    augment,
)
from compress.data.augmentation.crop import cropped
from compress.data.augmentation.deletion import delete_span
from compress.data.augmentation.mix import mixed
from compress.data.augmentation.shuffle import sentences_of, shuffle_sentences
from compress.data.augmentation.swap import swap_words
from compress.data.augmentation.words import replaced, spelled, whole_words
from compress.errors import InputError

TEXTS = [
    f"the {noun} was {much}{word}"
    for noun in ("film", "plot")
    for much in ("", "very ")
    for word in WORDS[:5]
]


@pytest.fixture(autouse=True)
def _own_cache(nothing_but_here):
    pass


def data(*texts, pairs=None):
    return datasets.Dataset.from_dict({"text": list(texts), **({"text_pair": pairs} if pairs else {})})


def save_masked_model(folder, favourite=None):
    """A tiny BERT that fills masks, always with `favourite` where one is given."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", **SIZE | depth("bert", 1) | {"vocab_size": len(tokenizer)})
    model = AutoModelForMaskedLM.from_config(config)
    if favourite:
        model.get_output_embeddings().bias.data[tokenizer.convert_tokens_to_ids(favourite)] = 100
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_translator(folder, family="t5", seed=0):
    tokenizer = trained_tokenizer(family)
    torch.manual_seed(seed)
    sizes = SIZE | TUNED[family] | depth(family, 1)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"vocab_size": len(tokenizer), "decoder_start_token_id": tokenizer.pad_token_id}
    AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(family, **sizes | ids)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_deleted_span_is_contiguous_and_as_long_as_asked():
    words = [str(i) for i in range(10)]
    for seed in range(20):
        left = list(map(int, delete_span(words, 0.3, Random(seed))))
        gone = sorted(set(range(10)) - set(left))
        assert gone == list(range(gone[0], gone[0] + 3))  # round(0.3 × 10)
        assert left == sorted(left)
    assert delete_span(["one"], 0.9, Random(0)) == ["one"]
    assert len(delete_span(["one", "two"], 0.99, Random(0))) == 1


def test_a_crop_is_contiguous_and_as_long_as_asked():
    words = [str(i) for i in range(10)]
    starts = set()
    for seed in range(60):
        kept = list(map(int, cropped(words, 0.3, Random(seed))))
        assert kept == list(range(kept[0], kept[0] + 3))  # round(0.3 × 10)
        starts.add(kept[0])
    assert starts == set(range(8))
    assert cropped(words, 0.01, Random(0))[0] in words
    assert cropped([], 0.5, Random(0)) == []


def test_crops_are_of_every_length_from_the_least():
    rewrite = SpanCrop(least=0.5).prepare("cpu", list)
    text = " ".join(map(str, range(10)))
    lengths = {len(made.split()) for made in rewrite([text] * 200, [Random(seed) for seed in range(200)])}
    assert lengths == set(range(5, 11))


def test_a_mix_is_of_one_run_of_each_text():
    words, other = list("abcdefghij"), list("0123456789")
    for seed in range(200):
        made = mixed(words, other, Random(seed))
        digits = [place for place, word in enumerate(made) if word.isdigit()]
        assert digits == list(range(digits[0], digits[-1] + 1))
        run = "".join(made[digits[0] : digits[-1] + 1])
        left = "".join(made[: digits[0]]), "".join(made[digits[-1] + 1 :])
        assert run in "".join(other)
        assert "abcdefghij".startswith(left[0])
        assert "abcdefghij".endswith(left[1])
        assert len(made) == 10  # the shares add up to 1
    assert mixed([], other, Random(0)) == []
    assert mixed(words, [], Random(0)) == words


def test_a_mix_reads_the_other_text_from_the_set():
    rewrite = SpanMix().prepare("cpu", lambda: ["x y z"])
    (made,) = rewrite(["a b c"], [Random(3)])
    assert set(made.split()) <= set("abcxyz")
    assert set(made.split()) & set("xyz")


def test_swapped_words_are_the_same_words():
    words = [str(i) for i in range(20)]
    once = swap_words(words, 0.05, Random(0))  # round(0.05 × 20) = 1 swap moves two words
    assert sorted(once) == sorted(words)
    assert sum(a != b for a, b in zip(once, words, strict=True)) == 2
    assert swap_words(["one"], 1, Random(0)) == ["one"]
    assert swap_words([], 1, Random(0)) == []


def test_sentences_are_cut_at_their_ends():
    text = 'It was fine. "Was it?" Yes!  Costs 3.50 a piece…  no end'
    assert sentences_of(text) == ["It was fine.", '"Was it?"', "Yes!", "Costs 3.50 a piece…", "no end"]
    assert shuffle_sentences("Only one here.", Random(0)) == "Only one here."
    shuffled = {shuffle_sentences("A b. C d.", Random(seed)) for seed in range(9)}
    assert shuffled == {"A b. C d.", "C d. A b."}


def test_marks_belong_to_the_word():
    words = ["cafe\u0301", "isn't", "\u0939\u093f\u0928\u094d\u0926\u0940", "x"]  # an accent apart; Hindi
    assert [word.group() for word in spelled(" ".join([*words, "3d", "\u2764\ufe0f!"]))] == [*words, "d"]


def test_a_new_word_takes_the_case_of_the_old_one():
    text = "Good films, don't they? A GOOD one, it's 10 good_s"
    words = spelled(text)
    assert [word.group() for word in words][:5] == ["Good", "films", "don't", "they", "A"]
    good = {word: "fine" for word in words if word.group().lower() == "good"}
    assert replaced(text, good) == "Fine films, don't they? A FINE one, it's 10 fine_s"


@pytest.mark.parametrize(
    ("family", "word", "piece"),
    [
        ("bert", "film", "##im"),
        ("roberta", "film", "ilm"),
        ("llama", "film", "ilm"),
        ("mistral", "film", "ilm"),
        ("t5", "ca", "ing"),  # so small a Unigram keeps few words whole
    ],
)
def test_whole_words_are_what_the_tokenizer_keeps_whole(family, word, piece):
    tokenizer = trained_tokenizer(family, size=600)
    words = whole_words(tokenizer)
    assert word in words.values()
    assert tokenizer.get_vocab().get(piece, -1) not in words
    assert not set(words) & set(tokenizer.all_special_ids)
    for index, spelling in words.items():
        assert tokenizer(f" {spelling}", add_special_tokens=False)["input_ids"] == [index]


def test_masked_words_are_those_the_model_says(tmp_path):
    name = save_masked_model(tmp_path / "m", favourite="bright")
    made = augment(
        data("a Dull film, is not bad", "bright"), [MaskedWords(model=name, rate=0.3, top_k=1)], 0, "x"
    )
    # round(0.3 × 6) = 2 words; the one word of the second text already is the likeliest, so another comes.
    first, second = made.data["text"]
    assert first.lower().replace(",", "").split().count("bright") == 2
    assert "," in first
    assert second in WORDS
    assert second != "bright"


def test_neighbours_are_nearest_by_cosine(tmp_path):
    model, tokenizer = tiny_model("bert"), tiny_tokenizer()
    table = model.get_input_embeddings().weight.data
    table.zero_()
    for i in range(len(table)):
        table[i, i] = 1
    good, fine, dull = tokenizer.convert_tokens_to_ids(["good", "fine", "dull"])
    table[fine] = 5 * table[good] + 0.1 * table[fine]  # cos(good, fine) = 5 / √25.01 = 0.9998
    table[dull] = 0.5 * table[good] + table[dull]  # cos(good, dull) = 0.5 / √1.25 = 0.447
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")

    def near(top_k):
        method = NeighbourWords(model=str(tmp_path / "m"), rate=0.9, top_k=top_k, copies=9)
        return set(augment(data("Good unknown!"), [method], 0, "x").data["text"])

    assert near(1) == {"Fine unknown!"}
    assert near(2) == {"Fine unknown!", "Dull unknown!"}


def near(text, texts, top_k):
    rewrite = NearTexts(top_k=top_k).prepare("cpu", lambda: sorted(texts))
    return set(rewrite([text] * 40, [Random(seed) for seed in range(40)]))


def test_near_texts_share_the_most_telling_words():
    texts = ["the red fox", "the red barn", "the green barn", "the blue sea", "nothing else"]
    assert near("the red fox", texts, 1) == {"the red barn"}  # "red" is rarer than "the"
    assert near("the red barn", texts, 2) == {"the red fox", "the green barn"}
    assert near("the red barn", texts, 9) == set(texts) - {"the red barn", "nothing else"}
    assert near("nothing else", texts, 9) == {"nothing else"}  # shares no word, so it stays
    assert near("a red dress", texts, 1) <= {"the red fox", "the red barn"}  # need not be of the set itself


def test_a_word_of_very_many_texts_does_not_count(monkeypatch):
    monkeypatch.setattr("compress.data.augmentation.near_texts._COMMON", 3)
    texts = ["film one", "film two", "film three", "film three again"]
    assert near("film one", texts, 9) == {"film one"}
    assert near("film three", texts, 9) == {"film three again"}


def test_a_pair_gets_a_near_partner():
    made = augment(data("a red fox", "a red barn", pairs=["x", "y"]), [NearTexts(copies=20)], 0, "near").data
    assert set(zip(made["text"], made["text_pair"], strict=True)) == {("a red barn", "x"), ("a red fox", "y")}


def test_near_texts_without_words_to_share_are_refused():
    with pytest.raises(InputError, match="no words that texts share"):
        augment(data("!", "?", pairs=[".", ","]), [NearTexts()], 0, "x")


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_texts_go_there_and_back(tmp_path, family):
    there, back = (
        save_translator(tmp_path / "there", family),
        save_translator(tmp_path / "back", family, seed=1),
    )
    method = BackTranslation(there=there, back=back, beams=2, there_prefix="to German: ")
    texts = [*SENTENCES[:2], " ".join(SENTENCES[:20])]  # the last is longer than BART's 40 positions
    made = augment(data(*texts), [method], 0, "x")
    assert 1 <= len(made.data) <= 3
    assert not set(made.data["text"]) & set(texts)


def test_words_beyond_the_models_positions_stay(tmp_path):
    name = save_masked_model(tmp_path / "m", favourite="bright")
    text = " ".join(["film"] * 100)  # 40 positions, two of them special tokens
    made = augment(data(text), [MaskedWords(model=name, rate=0.9, top_k=1)], 0, "x").data["text"][0].split()
    assert "bright" in made[:38]
    assert made[38:] == ["film"] * 62


METHODS = {
    "span-deletion": lambda folder: SpanDeletion(copies=2),
    "span-crop": lambda folder: SpanCrop(copies=2),
    "word-swap": lambda folder: WordSwap(rate=0.3, copies=2),
    "sentence-shuffle": lambda folder: SentenceShuffle(copies=2),
    "masked-words": lambda folder: MaskedWords(model=save_masked_model(folder), rate=0.4, copies=2),
    "neighbour-words": lambda folder: NeighbourWords(model=save_masked_model(folder), rate=0.4, copies=2),
}


@pytest.mark.parametrize("name", METHODS)
def test_seed_and_text_alone_decide(tmp_path, name, monkeypatch):
    method = METHODS[name](tmp_path / "model")
    texts = [f"{text}. {other}." for text, other in zip(TEXTS, TEXTS[1:], strict=False)]

    def made(rows, seed, folder):
        monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / folder))
        return list(augment(data(*rows), [method], seed, "x").data["text"])

    first = made(texts, 0, "a")
    assert first == made(texts, 0, "b")
    assert sorted(first) == sorted(made(texts[::-1], 0, "c"))
    parts = [
        text for start in range(0, len(texts), 5) for text in made(texts[start : start + 5], 0, f"p{start}")
    ]
    assert first == parts
    assert first != made(texts, 1, "d")
    assert not set(first) & set(texts)
    assert len(first) > len(texts) / 3


def test_one_text_of_a_pair_changes_at_a_time():
    texts, pairs = ([f"{side}{i} x y z" for i in range(20)] for side in "ab")
    made = augment(data(*texts, pairs=pairs), [SpanDeletion(copies=3)], 0, "x").data
    changed = {
        (text not in texts, pair not in pairs)
        for text, pair in zip(made["text"], made["text_pair"], strict=True)
    }
    assert changed == {(True, False), (False, True)}


def test_methods_follow_each_other_and_what_is_alike_goes(tmp_path):
    made = augment(data("one two", "single"), [SpanDeletion(copies=5), WordSwap(rate=0.5)], 0, "x")
    # Deletion leaves `one` or `two`, however often it is asked; a swap of two words has one outcome.
    assert sorted(made.data["text"]) == ["one", "two", "two one"]
    assert made.notes == (
        "augmentation (span-deletion, word-swap): 3 texts made of 2; unchanged or alike: 9",
    )


def test_what_was_made_once_is_read_again(tmp_path, monkeypatch):
    first = augment(data(*TEXTS), [SpanDeletion()], 0, "x")
    monkeypatch.setattr("compress.data.augmentation.run.write_rows", None)
    again = augment(data(*TEXTS), [SpanDeletion()], 0, "x")
    assert (again.fingerprint, list(again.data["text"])) == (first.fingerprint, list(first.data["text"]))
    with pytest.raises(TypeError):  # other rows are made anew
        augment(data(*TEXTS), [SpanDeletion()], 0, "y")


def test_damaged_texts_are_refused_by_name():
    augment(data(*TEXTS), [SpanDeletion()], 0, "x")
    (file,) = Path("cache").rglob("augmented-*.arrow")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"{file.name}: the cached texts are damaged.*Remove it"):
        augment(data(*TEXTS), [SpanDeletion()], 0, "x")
    file.unlink()
    assert len(augment(data(*TEXTS), [SpanDeletion()], 0, "x").data)


def test_a_method_that_changes_nothing_is_refused():
    with pytest.raises(InputError, match=r"augmentation: sentence-shuffle changed no text"):
        augment(data("one sentence"), [SentenceShuffle()], 0, "x")


def test_a_model_without_the_head_is_refused(tmp_path):
    tiny_model("bert").save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    name = str(tmp_path / "m")
    with pytest.raises(InputError, match=r"is not a masked language model: its weights lack cls\."):
        augment(data("a film"), [MaskedWords(model=name)], 0, "x")
    with pytest.raises(InputError, match=r"is not a model that translates"):
        augment(data("a film"), [BackTranslation(there=name, back=name)], 0, "x")


def test_options_are_checked_by_method():
    adapter = TypeAdapter(AnyAugmentation)
    assert adapter.validate_python({"method": "word-swap", "rate": 0.2}) == WordSwap(rate=0.2)
    for wrong in (
        {"method": "word-swap", "rate": 0},
        {"method": "masked-words"},
        {"method": "sentence-shuffle", "rate": 0.1},
        {"method": "unheard-of"},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
