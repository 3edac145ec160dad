"""Twenty families and every operation: smaller, reloaded bit for bit both ways, exported with the same answers."""

import json
import re
from pathlib import Path

import pytest
import torch
from family_grid import OPERATIONS, artifact_of, batch_of, changed
from tiny_configs import TUNED, UNTUNED
from tiny_models import ZOO, assert_reloads, logits, tiny_model
from tiny_tokenizers import SENTENCES, trained_tokenizer

from compress.artifact import load, save
from compress.errors import CompressError
from compress.exporting import export_onnx
from compress.layers import Int8Linear

ROOT = Path(__file__).parents[1]
ALWAYS = (
    "bert",
    "mpnet",
    "deberta-v3",
    "gpt2",
    "llama",
    "t5",
    "deberta",
    "xlnet",
)  # the rest are marked slow
CHAIN = ("heads", "ffn", "factorize", "vocabulary", "int8")


def mostly_slow(families):
    return [
        family if family in ALWAYS else pytest.param(family, marks=pytest.mark.slow) for family in families
    ]


def stored_bytes(model):
    return sum(tensor.nbytes for tensor in {t.data_ptr(): t for t in model.state_dict().values()}.values())


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("family", ZOO)
def test_every_operation_makes_it_smaller_and_reloads_bit_for_bit(family, operation, tmp_path):
    artifact = artifact_of(family)
    answers, size = logits(artifact.model, batch_of(artifact)), stored_bytes(artifact.model)
    artifact = changed(artifact, operation, tmp_path)
    if family != "albert" or operation != "layers":  # ALBERT's layers share one set of weights
        assert stored_bytes(artifact.model) < size
    # The batch is of the text whose pieces the vocabulary keeps.
    same = torch.equal(logits(artifact.model, batch_of(artifact)), answers)
    assert same is (operation == "vocabulary")
    assert_reloads(artifact, tmp_path / "model", batch_of(artifact))


@pytest.mark.parametrize("family", mostly_slow(ZOO))
def test_all_operations_together_reload_and_export(family, tmp_path):
    artifact, notes = artifact_of(family), []
    for operation in CHAIN:
        artifact = changed(artifact, operation, tmp_path)
    assert_reloads(artifact, tmp_path / "model", batch_of(artifact))
    assert export_onnx(artifact, tmp_path, notes).name == "model_quantized.onnx"
    layers = sum(isinstance(module, Int8Linear) for module in artifact.model.modules())
    assert f"all {layers} int8 layers are integer products" in notes[1]
    assert "parity with torch at 1×1, 1×12, 1×" in notes[2]


@pytest.mark.parametrize("family", mostly_slow(UNTUNED))
def test_families_that_nobody_prepared_for_work_or_say_why_not(family, tmp_path):
    artifact, refused = artifact_of(family), {}
    for operation in CHAIN:
        try:
            artifact = changed(artifact, operation, tmp_path)
        except CompressError as error:
            refused[operation] = error
    assert not {"vocabulary", "int8"} & refused.keys()
    assert all(error.cause and error.remedy for error in refused.values())
    assert_reloads(artifact, tmp_path / "model", batch_of(artifact))


def test_table_in_the_docs_is_that_of_the_record_and_lists_every_family():
    text = (ROOT / "docs/families.md").read_text()
    record = json.loads((ROOT / "bench/results/families.json").read_text())
    assert re.findall(r"^\| ([\w-]+) \|", text, re.M) == ["family", *TUNED, "family", *UNTUNED]
    assert list(record) == [*TUNED, *UNTUNED]
    found = {
        family: [*row["operations"].values(), *row["exports"].values()] for family, row in record.items()
    }
    assert not [reason for reasons in found.values() for reason in reasons if reason.startswith("broken")]
    assert not any(reason for family in TUNED for reason in found[family])  # what the tests above prove


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_without_a_pad_token_pads_with_the_end_of_the_text(family, tmp_path):
    tokenizer = trained_tokenizer("gpt2")
    assert tokenizer.pad_token is None
    tiny_model(family, layers=1, tokenizer=tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    artifact = load(tmp_path)
    assert artifact.model.config.pad_token_id == artifact.tokenizer.pad_token_id == tokenizer.eos_token_id
    together = logits(artifact.model, batch_of(artifact))
    for row, text in zip(together, SENTENCES, strict=False):
        alone = logits(artifact.model, dict(artifact.tokenizer(text, return_tensors="pt")))
        assert torch.allclose(row, alone[0], atol=1e-5)


def test_bart_keeps_its_two_labels(tmp_path):
    artifact = artifact_of("bart")
    save(artifact, tmp_path / "model")
    assert load(tmp_path / "model").model.config.num_labels == 2
