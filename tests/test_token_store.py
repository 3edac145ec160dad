"""Tokens on disk are the tokens in memory, row by row, and are made once."""

import shutil

import datasets
import numpy as np
import pytest
from tiny_models import WORDS, tiny_tokenizer

from compress.data import token_store
from compress.data.token_store import TokenStore, build_tokens
from compress.errors import InputError
from compress.tasks import Task
from compress.tasks.inputs import by_length, encode, pad

TASK = Task(kind="classification", labels=("a", "b"), max_length=9)
DATA = datasets.Dataset.from_dict({"text": [" ".join(WORDS[: 1 + i % 12]) for i in range(50)]})


@pytest.fixture(autouse=True)
def _own_cache(nothing_but_here):
    pass


def encoder(tokenizer=None):
    tokenizer = tokenizer or tiny_tokenizer()
    return lambda chunk: (encode(chunk, tokenizer, TASK), None)


def test_rows_are_those_of_the_tokenizer(monkeypatch):
    monkeypatch.setattr(token_store, "_CHUNK", 7)  # 50 rows are seven chunks and one row
    tokenizer = tiny_tokenizer(types=True)
    expected, _ = encoder(tokenizer)(DATA)

    store = build_tokens(DATA, encoder(tokenizer), "k")

    assert list(store) == expected
    assert len(store) == 50
    assert store[-1] == expected[-1]
    assert store[3:50:20] == expected[3:50:20]
    assert store[np.int64(4)] == expected[4]
    assert store.lengths.dtype == np.int32
    assert store.lengths.tolist() == [len(row["input_ids"]) for row in expected]
    assert max(store.lengths) == 9
    for outside in (50, -51):
        with pytest.raises(IndexError):
            store[outside]


def test_batches_are_made_as_from_a_list():
    tokenizer, store = tiny_tokenizer(), build_tokens(DATA, encoder(), "k")
    expected, _ = encoder()(DATA)
    assert by_length(store).tolist() == by_length(expected).tolist()
    padded, same = (pad([rows[i] for i in (0, 5, 9)], tokenizer) for rows in (store, expected))
    assert all((padded[name] == same[name]).all() for name in same)


def test_files_are_plain_arrays(tmp_path):
    store = build_tokens(DATA, encoder(), "k")
    ids = np.load(store.folder / "column-input_ids.npy", allow_pickle=False)
    assert ids.dtype == np.int32
    assert ids.tolist() == [token for row in encoder()(DATA)[0] for token in row["input_ids"]]
    offsets = np.load(store.folder / "offsets.npy", allow_pickle=False)
    assert (offsets.dtype, offsets[0], offsets[-1]) == (np.int64, 0, len(ids))
    assert isinstance(store.lengths, np.memmap)


def test_what_was_tokenized_is_not_tokenized_again():
    first = list(build_tokens(DATA, encoder(), "k"))
    assert list(build_tokens(DATA, lambda chunk: pytest.fail("tokenized twice"), "k")) == first


def test_a_failure_leaves_nothing(tmp_path):
    def fails(chunk):
        raise InputError("no")

    with pytest.raises(InputError):
        build_tokens(DATA, fails, "k")
    assert [
        path for path in (tmp_path / "cache" / "tokens").iterdir() if not path.name.endswith(".lock")
    ] == []
    assert len(build_tokens(DATA, encoder(), "k")) == 50


def test_what_a_killed_run_left_is_removed(tmp_path):
    half = tmp_path / "cache" / "tokens" / ".k-2.tmp" / "new"
    half.mkdir(parents=True)
    (half / "offsets.npy").write_bytes(b"half")
    assert len(build_tokens(DATA, encoder(), "k")) == 50
    assert not half.exists()


@pytest.mark.parametrize("name", ["offsets.npy", "column-input_ids.npy", "lengths.npy"])
def test_a_damaged_cache_is_refused_by_name(name):
    folder = build_tokens(DATA, encoder(), "k").folder
    (folder / name).write_bytes((folder / name).read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"{folder}: the cached tokens are damaged.*Remove it"):
        build_tokens(DATA, encoder(), "k")
    shutil.rmtree(folder)
    assert len(build_tokens(DATA, encoder(), "k")) == 50


def test_a_worker_maps_the_files_anew():
    store = build_tokens(DATA, encoder(), "k")
    maker, arguments = store.__reduce__()
    assert maker is TokenStore
    assert maker(*arguments)[7] == store[7]


def test_no_rows_are_refused():
    with pytest.raises(InputError, match=r"data: there are no texts to tokenize"):
        build_tokens(DATA.select([]), encoder(), "k")


def test_an_unwritable_cache_is_one_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the cache cannot be written .*Set COMPRESS_CACHE"):
        build_tokens(DATA, encoder(), "k")
