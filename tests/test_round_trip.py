"""Every order of passes reloads bit for bit, both ways; nothing is loaded without our package."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_model
from transformers import AutoModelForSequenceClassification

from compress.artifact import load, save, verify
from compress.errors import CompressError, FolderError
from compress.passes.base import Context
from compress.passes.factorize import Factorize
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.structure import describe

CUTS = {
    "heads": Prune(heads=0.25, criterion="magnitude"),
    "ffn": Prune(ffn=0.5, criterion="magnitude"),
    "layers": Prune(layers=2),
    "factorize": Factorize(keep=0.6, method="plain"),
}
# Every order of up to two passes as it is, every order of up to three followed by int8.
GRID = [
    (*order, *end)
    for size, end in [(1, ()), (2, ()), (0, ("int8",)), (1, ("int8",)), (3, ("int8",))]
    for order in itertools.permutations(CUTS, size)
]
PASSES = CUTS | {"int8": Quantize()}


@pytest.mark.parametrize("order", GRID, ids="-".join)
def test_every_order_of_passes_reloads_exactly(order, tmp_path):
    artifact = tiny_artifact(tiny_model("bert"))
    before = logits(artifact.model)
    for name in order:
        artifact = PASSES[name].apply(artifact, Context(seed=0, workdir=tmp_path))
    assert not torch.equal(logits(artifact.model), before), "the passes did something"
    assert_reloads(artifact, tmp_path / "model")


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "electra", "distilbert"])
def test_the_longest_chain_reloads_exactly_in_every_family(family, tmp_path):
    artifact = tiny_artifact(tiny_model(family))
    for step in PASSES.values():
        artifact = step.apply(artifact, Context(seed=0, workdir=tmp_path))
    assert_reloads(artifact, tmp_path / "model")


def test_a_plain_structure_is_saved_as_an_ordinary_folder(tmp_path):
    artifact = Prune(layers=1).apply(tiny_artifact(tiny_model("bert")), Context(seed=0, workdir=tmp_path))
    save(artifact, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())


def test_structure_names_only_what_differs_from_the_config(tmp_path):
    artifact = tiny_artifact(tiny_model("bert"))
    assert describe(artifact.model) == {}
    artifact = Prune(ffn=0.5, criterion="magnitude").apply(artifact, Context(seed=0, workdir=tmp_path))
    assert set(describe(artifact.model)) <= {
        f"bert.encoder.layer.{i}.{name}.dense" for i in range(3) for name in ("intermediate", "output")
    }


def compressed(tmp_path):
    artifact = Quantize().apply(tiny_artifact(tiny_model("bert")), Context(seed=0, workdir=tmp_path))
    save(artifact, tmp_path / "model")
    return tmp_path / "model"


def test_transformers_alone_stops_and_loads_nothing(tmp_path):
    script = (
        "import sys\n"
        "from transformers import AutoModelForSequenceClassification as Auto\n"
        "try:\n"
        "    Auto.from_pretrained(sys.argv[1])\n"
        "except OSError as error:\n"
        "    assert 'compress' not in sys.modules\n"
        "    sys.exit(f'stopped: {error}')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(compressed(tmp_path))],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert found.returncode == 1
    assert "stopped: " in found.stderr
    assert "model.safetensors" in found.stderr


@pytest.mark.parametrize("first", ["compress", "transformers"])
def test_importing_compress_before_or_after_transformers_is_enough(tmp_path, first):
    folder = compressed(tmp_path)
    second = "transformers" if first == "compress" else "compress"
    script = (
        f"import sys, torch, {first}, {second}\n"
        "from transformers import AutoModelForSequenceClassification as Auto\n"
        "plain, ours = Auto.from_pretrained(sys.argv[1]).eval(), compress.load(sys.argv[1]).model\n"
        "ids = torch.arange(4, 10)[None]\n"
        "assert torch.equal(plain(input_ids=ids).logits, ours(input_ids=ids).logits)\n"
    )
    found = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_save_pretrained_of_a_hook_loaded_model_is_refused(tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(compressed(tmp_path))
    with pytest.raises(ValueError, match="not serializable"):
        model.save_pretrained(tmp_path / "again")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, alter, os.remove], ids=["truncated", "altered", "missing"])
@pytest.mark.parametrize("name", ["compressed.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_folder_is_refused(tmp_path, damage, name):
    folder = compressed(tmp_path)
    damage(folder / name)
    with pytest.raises(CompressError, match=rf"{name}: the file|no safetensors weights|no config.json"):
        load(folder)


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path):
    artifact = tiny_artifact(tiny_model("bert"))
    artifact.model.save_pretrained(tmp_path)
    artifact.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(FolderError, match=r"weights are missing .* for bert.encoder.layer.3"):
        load(tmp_path)


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    artifact = tiny_artifact(tiny_model("bert"))
    save(artifact, tmp_path / "model")
    content = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def fail(*args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(artifact.tokenizer, "save_pretrained", fail)
    for target in ("model", "new"):
        with pytest.raises(RuntimeError, match="disk full"):
            save(artifact, tmp_path / target)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == content
    verify(tmp_path / "model")


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"holds something else \(thesis.txt\)"):
        save(tiny_artifact(tiny_model("bert")), tmp_path / "model")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FolderError, match="there is a file of that name"):
        save(tiny_artifact(tiny_model("bert")), tmp_path / "file")
    with pytest.raises(FolderError):
        save(tiny_artifact(tiny_model("bert")), tmp_path / "file" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]
