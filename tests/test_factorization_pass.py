"""The factorize pass: what it refuses and what it does."""

from dataclasses import replace

import datasets
import pytest
from pydantic import ValidationError
from tiny_models import WORDS, assert_reloads, tiny_artifact, tiny_model
from transformers import AutoConfig

from compress.architectures import matrices_of
from compress.data import TextData
from compress.layers import LowRankLinear
from compress.passes.base import Context, ModelPlan
from compress.passes.factorize import Factorize
from compress.passes.prune import Prune
from compress.tasks import Task


def tiny_data():
    texts = [" ".join(WORDS[i * step % len(WORDS)] for step in (1, 2, 4, 7)) for i in range(48)]
    split = datasets.Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(48)]})
    return TextData("tiny", split, split, split, ("negative", "positive"), False, "0", ())


def context(folder, seed=0):
    return Context(seed=seed, workdir=folder, data=tiny_data())


def plan(family="bert", **changes):
    config = family and AutoConfig.for_model(family, num_hidden_layers=3)
    task = Task(kind="classification", labels=("negative", "positive"))
    return replace(ModelPlan(config, task, tiny_data(), place="passes[0]"), **changes)


@pytest.mark.parametrize(
    ("options", "state", "message"),
    [
        ({}, {"quantized": True}, "a quantized model cannot be factorized. Put factorize before quantize"),
        ({}, {"exported": True}, "an exported model cannot be factorized. Put factorize before"),
        ({}, {"data": None}, "method whitened needs data. Give data, or method: plain"),
        ({}, {"family": "gpt2"}, "'gpt2' has no row in the architecture table"),
    ],
)
def test_what_cannot_work_is_refused_before_it_runs(options, state, message):
    checked = plan(**state)
    Factorize(keep=0.5, **options).check(checked)
    assert len(checked.errors) == 1
    assert message in checked.errors[0]


@pytest.mark.parametrize(("method", "state"), [("whitened", {}), ("plain", {"data": None, "task": None})])
def test_what_can_work_is_not_refused(method, state):
    checked = plan(**state)
    Factorize(keep=0.5, method=method).check(checked)
    assert checked.errors == []


@pytest.mark.parametrize("wrong", [{}, {"keep": 0}, {"keep": 1}, {"keep": 0.5, "method": "svd"}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Factorize(**wrong)


@pytest.mark.parametrize("method", ["whitened", "plain"])
def test_every_linear_layer_becomes_a_pair_of_the_rank_asked_for(method, tmp_path):
    running = context(tmp_path)
    artifact = Factorize(keep=0.5, method=method).apply(tiny_artifact(tiny_model("bert")), running)
    model = artifact.model
    for names in matrices_of(model):
        assert all(isinstance(model.get_submodule(name), LowRankLinear) for name in names.values())
        assert model.get_submodule(names["query"]).rank == 8  # 0.5 * 32 * 32 / 64
        assert model.get_submodule(names["ffn_in"]).rank == 10  # 0.5 * 32 * 64 / 96 = 10.7
    assert running.notes[0] == "rank of query per layer: 8 8 8"
    assert running.notes[-1].startswith("parameters: ")
    assert_reloads(artifact, tmp_path / "model")


def test_a_pair_is_split_anew_only_where_it_gets_smaller(tmp_path):
    artifact = tiny_artifact(tiny_model("bert"))
    artifact = Factorize(keep=0.5).apply(artifact, context(tmp_path))
    half = artifact.model.num_parameters()
    running = context(tmp_path)
    artifact = Factorize(keep=0.75).apply(artifact, running)
    assert artifact.model.num_parameters() == half
    assert "left as it is in 3 layers: query has rank 8 already" in running.notes
    artifact = Factorize(keep=0.25).apply(artifact, context(tmp_path))
    assert artifact.model.get_submodule(matrices_of(artifact.model)[0]["query"]).rank == 4
    assert artifact.model.num_parameters() < half


@pytest.mark.parametrize("family", ["bert", "electra", "distilbert"])
def test_pruning_and_factorizing_compose_in_both_orders(family, tmp_path):
    steps = [Prune(heads=0.5, ffn=0.5, samples=16), Factorize(keep=0.5)]
    for order in (steps, steps[::-1]):
        artifact = tiny_artifact(tiny_model(family))
        for step in order:
            artifact = step.apply(artifact, context(tmp_path))
        assert_reloads(artifact, tmp_path / order[0].name)
