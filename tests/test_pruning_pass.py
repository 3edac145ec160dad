"""The prune pass: what it refuses and what it does."""

import re
import subprocess
import sys

import pytest
from pydantic import ValidationError
from test_factorization_pass import context, plan
from tiny_models import FAMILIES, assert_reloads, tiny_artifact, tiny_model

from compress.architectures import ffn_widths, head_counts
from compress.passes.prune import Prune


def test_importing_the_passes_is_light():
    code = (
        "import sys, compress.passes.prune, compress.passes.factorize;"
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_yaml_form_is_the_pass():
    step = Prune.model_validate({"pass": "prune", "heads": 0.25, "ffn": 0.5, "criterion": "taylor"})
    assert step == Prune(heads=0.25, ffn=0.5, criterion="taylor")


@pytest.mark.parametrize(
    "wrong", [{"heads": 1}, {"ffn": -0.1}, {"layers": 0}, {"criterion": "l2"}, {"head": 0.5}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Prune(**wrong)


@pytest.mark.parametrize(
    ("options", "state", "message"),
    [
        ({"ffn": 0.5}, {"quantized": True}, "a quantized model cannot be pruned. Put prune before quantize"),
        ({"ffn": 0.5}, {"exported": True}, "an exported model cannot be pruned. Put prune before"),
        ({}, {}, "nothing to prune. Give heads, ffn"),
        ({"ffn": 0.5}, {"data": None}, "criterion fisher needs data. Give data, or criterion: magnitude"),
        ({"ffn": 0.5}, {"task": None}, "criterion fisher needs a model with a trained head. Put finetune"),
        ({"heads": 0.5}, {"family": "mpnet"}, "heads of mpnet cannot be removed .* ffn and layers work"),
        ({"ffn": 0.5}, {"family": "gpt2"}, "'gpt2' has no row in the architecture table"),
        ({"layers": 3}, {}, "layers: 3, but the model has 3. Give a smaller number"),
    ],
)
def test_what_cannot_work_is_refused_before_it_runs(options, state, message):
    checked = plan(**state)
    Prune(**options).check(checked)
    assert len(checked.errors) == 1
    assert re.search(message, checked.errors[0])


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"ffn": 0.5, "heads": 0.5}, {}),
        ({"ffn": 0.5, "criterion": "magnitude"}, {"data": None, "task": None}),
        ({"layers": 2}, {"data": None, "task": None}),
        ({"ffn": 0.5, "layers": 2}, {"family": "mpnet"}),
        ({"heads": 0.5}, {"family": None}),
    ],
)
def test_what_can_work_is_not_refused(options, state):
    checked = plan(**state)
    Prune(**options).check(checked)
    assert checked.errors == []


def test_later_passes_are_told_of_dropped_layers():
    checked = plan()
    given = checked.config
    Prune(layers=2).check(checked)
    assert (checked.config.num_hidden_layers, given.num_hidden_layers) == (2, 3)


@pytest.mark.parametrize("criterion", ["fisher", "taylor", "magnitude", "random"])
def test_heads_neurons_and_layers_go_by_the_shares_given(criterion, tmp_path):
    artifact, running = tiny_artifact(tiny_model("bert", layers=4)), context(tmp_path)
    pruned = Prune(heads=0.25, ffn=0.5, layers=2, criterion=criterion, samples=16).apply(artifact, running)
    assert sum(head_counts(pruned.model)) == 6  # 2 layers × 4 heads, less a quarter
    assert sum(ffn_widths(pruned.model)) == 64  # 2 layers × 64 neurons, less half
    assert all(width % 8 == 0 for width in ffn_widths(pruned.model))
    assert running.notes[0] == "layers kept (from 0): 1 3"
    assert running.notes[1].startswith("heads left per layer: ")
    assert running.notes[2].startswith("FFN neurons left per layer: ")
    assert_reloads(pruned, tmp_path / "model")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_pruned_twice(family, tmp_path):
    artifact = tiny_artifact(tiny_model(family))
    heads = 0 if family == "mpnet" else 0.3
    for _ in range(2):
        artifact = Prune(heads=heads, ffn=0.4, samples=16).apply(artifact, context(tmp_path))
    assert_reloads(artifact, tmp_path / "model")


def test_floors_are_kept_and_said(tmp_path):
    artifact, running = tiny_artifact(tiny_model("bert")), context(tmp_path)
    pruned = Prune(heads=0.9, criterion="random").apply(artifact, running)
    assert head_counts(pruned.model) == [1, 1, 1]
    assert "removed 9 of 12 heads, not 11: every layer keeps at least one" in running.notes


def test_the_seed_decides(tmp_path):
    results = [
        Prune(ffn=0.5, criterion="fisher", samples=8).apply(
            tiny_artifact(tiny_model("bert")), context(tmp_path, seed)
        )
        for seed in (0, 0, 1)
    ]
    weights = [result.model.bert.encoder.layer[0].intermediate.dense.weight for result in results]
    assert weights[0].equal(weights[1])
    assert not (weights[0].shape == weights[2].shape and weights[0].equal(weights[2]))
