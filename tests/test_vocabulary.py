"""Which pieces stay and how text comes out: hand-made tokenizers of every kind."""

import json
from collections import Counter

import pytest
from tiny_tokenizers import SENTENCES, trained_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertConfig, CanineTokenizer, PreTrainedTokenizerFast

from compress.errors import CompressError, InputError
from compress.pruning.vocabulary.backend import (
    named_ids,
    piece_ids,
    plain_backend,
    rebuilt,
    state_of,
    unknown_id,
    with_ids,
)
from compress.pruning.vocabulary.pieces import choose, floor, symbols
from compress.pruning.vocabulary.proof import Change, change, check_unchanged, count_pieces


def state_for(model, special=("<pad>", "<unk>"), splits=True):
    tokenizer = Tokenizer(model)
    if splits:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    return json.loads(tokenizer.to_str())


def numbered(*pieces):
    return {piece: index for index, piece in enumerate(pieces)}


WORDPIECE = numbered(
    *("<pad>", "un", "<unk>", "u", "n", "a", "b", "l", "e", "##u", "##n", "##a", "##b", "##l", "##e"),
    *("##able", "##le", "able", "unable"),
)
MERGES = [("l", "o"), ("lo", "w"), ("e", "r"), ("n", "e"), ("low", "er"), ("ne", "w")]
BPE = numbered("<pad>", "<unk>", *"lowern", "lo", "low", "er", "ne", "lower", "new")
UNIGRAM = [("<pad>", 0.0), ("spare", -3.0), ("<unk>", 0.0), ("▁", -2.0)] + [
    *((letter, -4.0) for letter in "filmp"),
    *(("▁film", -3.0), ("film", -5.0), ("▁fil", -4.0), ("plim", -9.0), ("filß", -6.0)),
]


def wordpiece():
    return state_for(models.WordPiece(WORDPIECE, unk_token="<unk>"))


def bpe(**options):
    return state_for(models.BPE(vocab=BPE, merges=MERGES, unk_token="<unk>", **options))


def unigram():
    return state_for(models.Unigram(UNIGRAM, unk_id=2))


def shrink(state, *pieces, **options):
    """Keep the floor and `pieces`; return the new backend and the new ids."""
    ids = piece_ids(state)
    counts = Counter({ids[piece]: 1 for piece in pieces})
    kept = choose(counts, floor(state), state, min_count=1, **options)
    new_id = {index: row for row, index in enumerate(kept)}
    return Tokenizer.from_str(json.dumps(with_ids(state, new_id))), new_id


@pytest.mark.parametrize(
    ("piece", "model", "expected"),
    [
        ("##ing", {"continuing_subword_prefix": "##"}, ["##i", "##n", "##g"]),
        ("ing", {"continuing_subword_prefix": "##"}, ["i", "##n", "##g"]),
        ("##", {"continuing_subword_prefix": "##"}, ["#", "###"]),
        ("ing</w>", {"end_of_word_suffix": "</w>"}, ["i", "n", "g</w>"]),
        ("▁a", {"continuing_subword_prefix": None}, ["▁", "a"]),
        ("é", {}, ["é"]),
    ],
)
def test_a_piece_is_spelled_in_the_forms_that_its_model_has(piece, model, expected):
    assert symbols(piece, model) == expected


def test_wordpiece_cuts_kept_words_as_before_and_spells_the_others():
    new, _ = shrink(wordpiece(), "un", "##able")
    assert new.encode("unable", add_special_tokens=False).tokens == ["un", "##able"]  # `unable` went
    assert new.encode("able", add_special_tokens=False).tokens == ["a", "##b", "##l", "##e"]
    assert new.get_vocab_size() == 2 + 6 + 6 + 2


def test_bpe_keeps_what_a_piece_is_merged_from_and_only_merges_that_still_work():
    new, _ = shrink(bpe(), "lower")
    assert json.loads(new.to_str())["model"]["merges"] == [["l", "o"], ["lo", "w"], ["e", "r"], ["low", "er"]]
    assert new.encode("lower", add_special_tokens=False).tokens == ["lower"]
    assert new.encode("new", add_special_tokens=False).tokens == ["n", "e", "w"]


def test_bpe_takes_the_derivation_that_the_ranks_give():
    vocab = numbered("<unk>", *"abc", "ab", "bc", "abc")
    # `abc` can be made in two ways; a+b has the lower rank, so `bc` is never on its way.
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
    new, _ = shrink(state_for(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"), ["<unk>"]), "abc")
    assert set(new.get_vocab()) == {"<unk>", *"abc", "ab", "abc"}
    assert new.encode("abc").tokens == ["abc"]


def test_bpe_with_a_word_end_and_with_a_continuation_prefix():
    ends = numbered("<unk>", *"in", "n</w>", "i</w>", "in</w>")
    state = state_for(
        models.BPE(vocab=ends, merges=[("i", "n</w>")], unk_token="<unk>", end_of_word_suffix="</w>"),
        ["<unk>"],
    )
    assert shrink(state, "in</w>")[0].encode("in").tokens == ["in</w>"]
    assert shrink(state)[0].encode("in").tokens == ["i", "n</w>"]
    inside = numbered("<unk>", *"in", "##n", "##i", "in", "##in")
    state = state_for(
        models.BPE(
            vocab=inside,
            merges=[("##i", "##n"), ("i", "##n")],
            unk_token="<unk>",
            continuing_subword_prefix="##",
        ),
        ["<unk>"],
    )
    assert shrink(state, "in")[0].encode("in").tokens == ["in"]
    assert shrink(state)[0].encode("nin").tokens == ["n", "##i", "##n"]


def test_bpe_words_that_no_merge_makes_stay_whole():
    vocab = numbered("<unk>", *"abc", "ab", "abc")
    state = state_for(
        models.BPE(vocab=vocab, merges=[("a", "b")], unk_token="<unk>", ignore_merges=True), ["<unk>"]
    )
    assert shrink(state, "abc")[0].encode("abc").tokens == ["abc"]
    assert shrink(state)[0].encode("abc").tokens == ["a", "b", "c"]


def test_unigram_takes_the_best_path_that_is_left():
    state = unigram()
    new, new_id = shrink(state, "film")
    # ▁film (-3) went; ▁ film: -2 -5 = -7 is better than letter by letter: -2 -16.
    assert new.encode("▁film", add_special_tokens=False).tokens == ["▁", "film"]
    kept = json.loads(new.to_str())["model"]
    assert kept["vocab"][kept["unk_id"]][0] == "<unk>"
    assert unknown_id(state) == kept["unk_id"] == new_id[2], (
        "classes of transformers fix the id: it must stay"
    )
    assert ["plim", -9.0] in kept["vocab"], "unknown characters score 10 below the lowest"


def test_pieces_with_a_character_of_no_piece_of_its_own_stay():
    state = unigram()
    ids = piece_ids(state)
    assert ids["filß"] in floor(state)
    assert ids["▁fil"] not in floor(state)


def test_bytes_to_fall_back_on_stay():
    vocab = numbered("<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "a", "aa")
    state = state_for(
        models.BPE(vocab=vocab, merges=[("a", "a")], unk_token="<unk>", byte_fallback=True), ["<unk>"]
    )
    new, _ = shrink(state)
    assert new.get_vocab_size() == 258
    assert new.encode("é").tokens == ["<0xC3>", "<0xA9>"]


def test_wordlevel_keeps_special_words_and_those_seen():
    words = numbered("<pad>", "<unk>", "a", "film", "b")
    new, new_id = shrink(state_for(models.WordLevel(words, unk_token="<unk>")), "film")
    assert new.get_vocab() == {"<pad>": 0, "<unk>": 1, "film": 2}
    assert new_id == {0: 0, 1: 1, 3: 2}


def test_counts_choose_and_ties_go_to_the_smaller_id():
    state = wordpiece()
    ids, always = piece_ids(state), floor(state)
    counts = Counter({ids["##able"]: 5, ids["un"]: 2, ids["able"]: 2, ids["unable"]: 1})

    def left(min_count, max_size=None):
        return {
            piece
            for piece, index in ids.items()
            if index in set(choose(counts, always, state, min_count, max_size)) - always
        }

    assert left(1) == {"##able", "un", "able", "unable"}
    assert left(2) == {"##able", "un", "able"}
    assert left(1, len(always) + 2) == {"##able", "un"}
    assert left(6) == set()
    with pytest.raises(InputError, match=r"max_size 3 is less than the 14 pieces that always stay"):
        left(1, 3)


def test_a_piece_that_does_not_fit_with_its_parts_makes_room_for_a_rarer_one():
    state = bpe()
    ids, always = piece_ids(state), floor(state)
    counts = Counter({ids["lower"]: 2, ids["ne"]: 1})
    kept = set(choose(counts, always, state, 1, len(always) + 1))
    assert kept - always == {ids["ne"]}, "lower needs lo, low and er as well"


@pytest.mark.parametrize(
    "processor",
    [
        processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", 5), ("[SEP]", 7)],
        ),
        processors.BertProcessing(("[SEP]", 7), ("[CLS]", 5)),
        processors.Sequence(
            [processors.ByteLevel(), processors.RobertaProcessing(("[SEP]", 7), ("[CLS]", 5))]
        ),
    ],
    ids=["template", "bert", "sequence of roberta"],
)
def test_every_id_outside_the_vocabulary_follows(processor):
    words = numbered("a", "b", "c", "d", "[PAD]", "[CLS]", "e", "[SEP]", "[UNK]")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[NEW]"])
    tokenizer.post_processor = processor
    tokenizer.enable_padding(pad_id=4, pad_token="[PAD]", length=6)
    state = json.loads(tokenizer.to_str())
    assert named_ids(state) == {4, 5, 7, 8, 9}
    new, new_id = shrink(state, "c")
    assert new_id == {2: 0, 4: 1, 5: 2, 7: 3, 8: 4, 9: 5}
    assert new.encode("c b [NEW]").tokens == ["[CLS]", "c", "[UNK]", "[NEW]", "[SEP]", "[PAD]"]
    assert new.encode("c b [NEW]").ids == [2, 0, 4, 5, 3, 1]


@pytest.mark.parametrize("family", ["bert", "roberta", "mistral", "xlm-roberta"])
def test_texts_whose_pieces_stay_are_cut_as_before(family):
    tokenizer = trained_tokenizer(family, size=600)
    state, old = state_of(tokenizer), plain_backend(tokenizer)
    seen = count_pieces(old, SENTENCES[:8])
    new, new_id = shrink(state, *(tokenizer.convert_ids_to_tokens(index) for index in seen))
    same = check_unchanged(old, new, new_id, SENTENCES)
    assert same >= 8
    for text in SENTENCES[:8]:
        assert new.encode(text).tokens == old.encode(text).tokens
    assert new.get_vocab_size() < old.get_vocab_size()


def test_a_text_that_would_be_cut_otherwise_is_an_error():
    state = bpe()
    old = Tokenizer.from_str(json.dumps(state))
    new_id = {index: index for index in piece_ids(state).values()}
    broken = {**state, "model": {**state["model"], "merges": state["model"]["merges"][1:]}}
    new = Tokenizer.from_str(json.dumps(broken))
    with pytest.raises(
        CompressError, match="text 'lower': a text whose pieces all stay would be cut otherwise"
    ):
        check_unchanged(old, new, new_id, ["er", "lower"])


def test_the_change_of_other_text_is_counted():
    state = wordpiece()
    old = Tokenizer.from_str(json.dumps(state))
    new, new_id = shrink(state, "un", "##able")
    # unable, able: 2 tokens gone; they become un ##able and a ##b ##l ##e. x was unknown before.
    assert change(old, new, new_id, 2, ["unable able x", "un"]) == Change(4, 2, 8, 0)
    words = state_for(models.WordLevel(numbered("<pad>", "<unk>", "film"), unk_token="<unk>"))
    new, new_id = shrink(words)
    old = Tokenizer.from_str(json.dumps(words))
    assert change(old, new, new_id, 1, ["film film bad"]) == Change(3, 2, 3, 2)


def test_a_tokenizer_of_plain_python_is_refused():
    with pytest.raises(InputError, match=r"CanineTokenizer is not built on the tokenizers library"):
        state_of(CanineTokenizer())


def test_reading_the_state_leaves_the_tokenizer_as_it_is():
    tokenizer = trained_tokenizer("bert")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    plain = plain_backend(tokenizer)
    assert len(plain.encode("this film was dull.", add_special_tokens=False).ids) > 4
    assert len(tokenizer.backend_tokenizer.encode("this film was dull.").ids) == 9


def test_what_transformers_reads_is_the_tokenizer_in_all_but_the_pieces():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(wordpiece())),
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=17,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.add_tokens(["lens"])
    tokenizer.backend_tokenizer.decoder = decoders.WordPiece()
    state = state_of(tokenizer)
    kept = sorted(floor(state))
    new = rebuilt(tokenizer, with_ids(state, {index: row for row, index in enumerate(kept)}), BertConfig())
    for name in (
        "padding_side",
        "model_max_length",
        "model_input_names",
        "special_tokens_map",
        "name_or_path",
    ):
        assert getattr(new, name) == getattr(tokenizer, name)
    assert new.tokenize("able lens") == ["a", "##b", "##l", "##e", "lens"]
    assert new.convert_tokens_to_ids("lens") == len(new) - 1 == len(kept) - 1
    assert new.decode(new("able lens")["input_ids"]) == "able lens"


def test_other_ids_than_the_file_says_are_an_error():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(wordpiece())), pad_token="<pad>", cls_token="[CLS]"
    )
    state = json.loads(Tokenizer.from_str(json.dumps(wordpiece())).to_str())  # without the [CLS] just added
    with pytest.raises(
        CompressError, match=r"builds other ids than its tokenizer.json: '\[CLS\]' is 19, not None"
    ):
        rebuilt(tokenizer, state, BertConfig())
