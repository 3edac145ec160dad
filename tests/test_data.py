"""Data from anywhere ends as three splits in one form, or as one error that says where and what to do."""

import json

import datasets
import pytest

from compress.data import DataConfig, load_data
from compress.data.columns import detect_columns
from compress.data.splits import cut
from compress.data.table import Table
from compress.errors import InputError

ROWS = [
    (f"a fine film, number {i}" if i % 2 else f"a dull film, number {i}", "pos" if i % 2 else "neg")
    for i in range(40)
]


def _csv(path, rows=ROWS, header="review,sentiment"):
    path.write_text(
        "\n".join([header, *(f'"{text}",{label}' for text, label in rows)]) + "\n", encoding="utf-8"
    )
    return path


def _load(source, **options):
    return load_data(DataConfig(source=str(source), **options))


def _texts(data):
    return {split: list(getattr(data, split)["text"]) for split in ("train", "validation", "test")}


def test_a_csv_is_detected_and_cut_by_class(tmp_path):
    data = _load(_csv(tmp_path / "reviews.csv"))
    assert data.labels == ("neg", "pos")
    assert (len(data.train), len(data.validation), len(data.test)) == (28, 4, 8)  # 20% and 10% of 40
    assert sum(data.test["label"]) == 4  # half of them, as in the whole
    assert data.train.features["label"].dtype == "int64"
    notes = "\n".join(data.notes)
    assert "text column 'review'" in notes
    assert "label column 'sentiment' (by its name)" in notes
    assert "test: 8 of 40 train rows, seed 0, by class" in notes


def test_splits_never_share_rows_and_repeat_exactly(tmp_path):
    path = _csv(tmp_path / "reviews.csv")
    first, second = _load(path), _load(path)
    assert _texts(first) == _texts(second)
    assert first.fingerprint == second.fingerprint
    assert sorted(sum(_texts(first).values(), [])) == sorted(text for text, _ in ROWS)


def test_the_fingerprint_follows_content_not_the_file(tmp_path):
    one = _load(_csv(tmp_path / "one.csv"))
    other = _csv(tmp_path / "other.csv", header="text,label")
    assert _load(other).fingerprint == one.fingerprint
    changed = [("another text", "neg"), *ROWS[1:]]
    assert _load(_csv(tmp_path / "one.csv", changed)).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    "kind", ["csv", "semicolon", "tsv", "jsonl", "json", "json-lines", "parquet", "saved", "saved-dict"]
)
def test_every_kind_of_file_gives_the_same_data(tmp_path, kind):
    rows = [{"text": text, "label": label} for text, label in ROWS]
    table = datasets.Dataset.from_list(rows)
    path = tmp_path / {"semicolon": "x.csv", "json-lines": "x.json"}.get(kind, f"x.{kind}")
    if kind == "csv":
        _csv(path, header="text,label")
    elif kind == "semicolon":
        path.write_text("\n".join(["text;label", *(f"{a};{b}" for a, b in ROWS)]))
    elif kind == "tsv":
        path.write_text("\r\n".join(["text\tlabel", *(f"{a}\t{b}" for a, b in ROWS)]))
    elif kind in {"jsonl", "json-lines"}:
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif kind == "parquet":
        table.to_parquet(path)
    elif kind == "saved":
        table.save_to_disk(path)
    else:
        datasets.DatasetDict(train=table).save_to_disk(path)
    assert _load(path).fingerprint == _load(_csv(tmp_path / "reference.csv")).fingerprint


def test_a_column_may_part_the_test_set(tmp_path):
    rows = [(text, f"{label},{'old' if number % 4 else ''}") for number, (text, label) in enumerate(ROWS)]
    path = _csv(tmp_path / "reviews.csv", rows, header="review,sentiment,age")
    whole, parted = _load(path), _load(path, slice_by="age")
    assert parted.fingerprint == whole.fingerprint  # so nothing is trained anew for it
    assert parted.train.column_names == whole.test.column_names
    numbers = [int(text.split()[-1]) for text in parted.test["text"]]
    assert parted.test["slice by age"] == ["old" if number % 4 else "" for number in numbers]
    with pytest.raises(InputError, match="there is no column 'size'"):
        _load(path, slice_by="size")
    for split in ("train", "test"):
        _csv(tmp_path / f"{split}.csv", rows[: 20 if split == "train" else 8], "review,sentiment,age")
    path.unlink()
    assert _load(tmp_path, slice_by="age").test["slice by age"][:5] == ["", "old", "old", "old", ""]


def test_what_parts_the_test_set_is_not_taken_for_the_label(tmp_path):
    rows = [(text, f"{label},{'old' if number % 4 else 'new'}") for number, (text, label) in enumerate(ROWS)]
    path = _csv(tmp_path / "reviews.csv", rows, header="review,mood,age")
    with pytest.raises(InputError, match="more than one column may be the label"):
        _load(path)
    assert _load(path, slice_by="age").labels == ("neg", "pos")


def test_raw_text_has_no_parts(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(text for text, _ in ROWS))
    with pytest.raises(InputError, match="raw text has no parts"):
        _load(tmp_path / "lines.txt", slice_by="text")


def test_text_stays_as_typed(tmp_path):
    odd = ["NA", "null", "nan", "007", "None", 'say ""hi""', "two\nlines", "1.50"]
    rows = [(odd[i % len(odd)] if i < 8 else text, label) for i, (text, label) in enumerate(ROWS)]
    data = _load(_csv(tmp_path / "x.csv", rows, header="text,label"))
    texts = set(sum(_texts(data).values(), []))
    assert {"NA", "null", "nan", "007", "None", 'say "hi"', "two\nlines", "1.50"} <= texts


def test_a_tsv_with_lone_quotes_is_plain_text(tmp_path):
    (tmp_path / "x.tsv").write_text("text\tlabel\n" + "".join(f'"{a}\t{b}\n' for a, b in ROWS))
    assert _load(tmp_path / "x.tsv").train["text"][0].startswith('"a ')


def _folder(tmp_path, **splits):
    for split, rows in splits.items():
        _csv(tmp_path / f"{split}.csv", rows, header="text,label")
    return tmp_path


def test_a_folder_keeps_its_splits(tmp_path):
    data = _load(_folder(tmp_path, train=ROWS[:20], dev=ROWS[20:30], test=ROWS[30:]))
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 10, 10)
    assert data.test["text"][0] == ROWS[30][0]


def test_a_folder_without_dev_cuts_it_from_train(tmp_path):
    data = _load(_folder(tmp_path, train=ROWS[:30], test=ROWS[30:]))
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 10)
    assert "validation: 3 of 30 train rows, seed 0, by class" in data.notes


def test_a_test_split_that_nobody_labelled_gives_way_to_validation(tmp_path):
    names = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )

    def split(rows, labels):
        return datasets.Dataset.from_dict(
            {"sentence": [text for text, _ in rows], "label": labels}, features=names
        )

    saved = datasets.DatasetDict(
        train=split(ROWS[:20], [0, 1] * 10),
        validation=split(ROWS[20:30], [0, 1] * 5),
        test=split(ROWS[30:], [-1] * 10),
    )
    saved.save_to_disk(tmp_path / "glue")
    data = _load(tmp_path / "glue")
    assert list(data.test["text"]) == [text for text, _ in ROWS[20:30]]
    assert data.labels == ("bad", "good")
    assert len(data.train) + len(data.validation) == 20
    assert "test: not used, it has no labels" in data.notes


def test_class_label_names_survive_parquet_whatever_their_order(tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["zzz", "aaa"])}
    )
    columns = {"text": [text for text, _ in ROWS], "label": [0, 1] * 20}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "x.parquet")
    assert _load(tmp_path / "x.parquet").labels == ("zzz", "aaa")


def test_shards_of_a_split_are_joined(tmp_path):
    for part in range(2):
        _csv(tmp_path / f"train-0000{part}-of-00002.csv", ROWS[part::2], header="text,label")
    data = _load(tmp_path)
    assert len(data.train) + len(data.validation) + len(data.test) == 40


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9"], ("9", "10")),
        (["true", "false"], ("false", "true")),
        (["1.0", "0.0"], ("0", "1")),
        (["NA", "EU"], ("EU", "NA")),
    ],
)
def test_class_names_of_a_csv(tmp_path, labels, names):
    rows = [(text, labels[i % 2]) for i, (text, _) in enumerate(ROWS)]
    assert _load(_csv(tmp_path / "x.csv", rows)).labels == names


def test_booleans_are_false_then_true(tmp_path):
    rows = [{"text": text, "label": i % 2 == 0} for i, (text, _) in enumerate(ROWS)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = _load(tmp_path / "x.jsonl")
    assert data.labels == ("false", "true")


def test_fractions_are_scores_and_whole_numbers_can_be_asked_to_be(tmp_path):
    rows = [(text, i / 4) for i, (text, _) in enumerate(ROWS)]
    data = _load(_csv(tmp_path / "x.csv", rows))
    assert data.labels == ()
    assert data.train.features["label"].dtype == "float32"
    whole = [(text, i % 5) for i, (text, _) in enumerate(ROWS)]
    assert _load(_csv(tmp_path / "y.csv", whole)).labels == ("0", "1", "2", "3", "4")
    assert _load(tmp_path / "y.csv", task="regression").labels == ()


@pytest.mark.parametrize(
    "names",
    [
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("text_a", "text_b"),
        ("question", "sentence"),
        ("q1", "q2"),
    ],
)
def test_pairs_are_known_by_their_names(tmp_path, names):
    lines = [f'{i},"{text}","other {text}",{label}' for i, (text, label) in enumerate(ROWS)]
    (tmp_path / "x.csv").write_text("\n".join([f"id,{names[0]},{names[1]},label", *lines]))
    data = _load(tmp_path / "x.csv")
    assert data.pair
    assert data.train["text_pair"][0] == f"other {data.train['text'][0]}"


def test_naming_the_text_means_that_text_alone(tmp_path):
    lines = [f'"{text}","other {text}",{label}' for text, label in ROWS]
    (tmp_path / "x.csv").write_text("\n".join(["sentence1,sentence2,label", *lines]))
    data = _load(tmp_path / "x.csv", text="sentence2")
    assert not data.pair
    assert data.train["text"][0].startswith("other")


def _detect(**columns):
    return detect_columns(Table("x", columns), DataConfig(source="x"))


def test_the_clearly_longest_strings_are_the_text():
    found = _detect(
        headline=[f"short title {i}" for i in range(20)],
        story=[f"a much longer story about everything, number {i}" for i in range(20)],
        language=["en", "fr"] * 10,
        kind=[0, 1] * 10,
        label=["x", "y"] * 10,
    )
    assert (found.text, found.label) == ("story", "label")
    assert "text column 'story' (longest strings)" in found.notes


def test_a_label_without_a_known_name_is_found_by_few_values():
    found = _detect(
        id=list(range(20)), words=[f"some words {i}" for i in range(20)], verdict=["guilty", "free"] * 10
    )
    assert (found.text, found.label) == ("words", "verdict")


def test_unclear_columns_name_the_candidates_and_the_key():
    words = [f"some words {i}" for i in range(20)]
    with pytest.raises(InputError, match=r"may be the text: first, other.*Set text:"):
        _detect(first=words, other=words, label=[0, 1] * 10)
    with pytest.raises(InputError, match=r"may be the label: category, sentiment.*Set label:"):
        _detect(text=words, category=["a", "b"] * 10, sentiment=["c", "d"] * 10)


def _bad(name, content, **options):
    return name, content, options


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (_bad("x.csv", b""), "the file is empty"),
        (_bad("x.csv", b"text,label\n"), "a header but no rows"),
        (_bad("x.jsonl", b"\n\n"), "no rows"),
        (_bad("x.csv", b"text,label\na b,1\nc, d,0\n"), "line 3 has 3 fields, the header has 2"),
        (_bad("x.csv", b'text,label\na b,1\n"c d,0\n'), "line 3 does not parse"),
        (_bad("x.csv", b"text,text\na,b\n"), "names 'text' twice"),
        (_bad("x.csv", b"text,label\na b,1\ncaf\xe9,0\n"), "not UTF-8: byte 0xe9 on line 3.*iconv"),
        (_bad("x.jsonl", b'{"text": "a"}\n{"text": }\n'), "line 2 is not valid JSON"),
        (_bad("x.jsonl", b'{"text": "a"}\n[1]\n'), "line 2 is a list, not an object"),
        (_bad("x.json", b'{"a":\n 1}'), "top level is a dict"),
        (_bad("x.parquet", b"PAR1"), "not a readable parquet"),
        (_bad("x.xlsx", b"x"), r"'\.xlsx' are not read.*\.csv"),
        (_bad("x.csv", b"n,label\n1,a\n2,b\n3,a\n4,b\n"), "no column holds text"),
        (_bad("x.csv", b"a b,1\nc d,0\n", text="text"), "no column 'text'.*Its columns: a b, 1"),
        (
            _bad("x.csv", b"text,label\na b,1\n,0\nc d,0\n  ,1\n"),
            "2 of 4 rows have no text .lines 3, 5.*delete",
        ),
        (_bad("x.csv", b"text,label\na b,1\nc d,\ne f,0\ng h,1\n"), "1 of 4 rows have no label.*line 3"),
        (
            _bad("x.jsonl", b'{"text":"a b","label":1}\n{"text":"c d","label":NaN}\n' * 3),
            "3 of 6 rows.*lines 2, 4, 6",
        ),
        (
            _bad("x.jsonl", b'{"text":"a b","label":1}\n{"text":3,"label":0}\n', text="text"),
            "holds a int where text.*line 2",
        ),
        (_bad("x.csv", b"text,label\n" + b"a b,1\n" * 9), "same class, '1'"),
        (
            _bad("x.csv", b"text,label\na b,1.5\nc d,inf\ne f,2.5\ng h,1\n"),
            "1 values .* not finite numbers, first inf",
        ),
        (
            _bad("x.csv", b"text,label\na b,x\nc d,y\ne f,z\ng h,x\n", task="regression"),
            "4 values .* first 'x'",
        ),
        (_bad("x.csv", b"text,label\na b,1\nc d,0\n"), "too few"),
        (
            _bad("x.csv", b"text,label\na b,0.5\nc d,1.5\ne f,2\ng h,1\n", task="classification"),
            "holds no classes",
        ),
        (_bad("x.csv", "\n".join(["text,label", *(f"w {i},{i}" for i in range(50))]).encode()), "Set task:"),
    ],
)
def test_unusable_files_are_refused_with_place_and_reason(tmp_path, file, message):
    name, content, options = file
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s){name}.*{message}"):
        _load(tmp_path / name, **options)


def test_a_class_that_train_never_shows_is_refused(tmp_path):
    folder = _folder(tmp_path, train=ROWS[:20], dev=ROWS[20:30], test=[*ROWS[30:], ("new", "mixed")])
    with pytest.raises(
        InputError, match=r"test\.csv: 1 rows have a class that train never shows: mixed .line 12"
    ):
        _load(folder)


def test_folders_without_a_clear_train_file_are_refused(tmp_path):
    _csv(tmp_path / "data.csv")
    with pytest.raises(InputError, match=r"no train file.*data\.csv"):
        _load(tmp_path)
    _csv(tmp_path / "train.csv")
    _csv(tmp_path / "train2.train.csv")
    with pytest.raises(InputError, match="more than one file may be the train split"):
        _load(tmp_path)


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    _csv(tmp_path / "reviews.csv")
    with pytest.raises(InputError, match=r"no such file.*Did you mean reviews\.csv"):
        _load(tmp_path / "review.csv")


def test_repeated_texts_stay_in_train():
    """10 of 30 rows repeat one text; drawn rows must come from the 20 others."""
    texts = ["same"] * 10 + [f"text {i}" for i in range(20)]
    drawn, kept = cut([i % 2 for i in range(30)], texts, 6)
    assert len(drawn) == 6
    assert min(drawn) >= 10
    assert sorted(drawn + kept) == list(range(30))


def test_the_cut_never_takes_the_last_row_of_a_class():
    drawn, kept = cut(["common"] * 20 + ["rare"], [str(i) for i in range(21)], 5)
    assert 20 in kept
    assert len(drawn) == 5


def test_models_are_refused_by_name():
    with pytest.raises(InputError, match="minilm-l6 is a model"):
        _load("minilm-l6")
