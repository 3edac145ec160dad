"""The factorize pass: what it refuses and what it does."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from tiny_data import tiny_data
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_model, tiny_tokenizer
from transformers import AutoConfig

from compress.errors import InputError
from compress.factorization.run import linears_of
from compress.layers import LowRankEmbedding, LowRankLinear
from compress.passes.base import Context, ModelPlan
from compress.passes.factorize import Factorize
from compress.passes.prune import Prune
from compress.tasks import Task


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
        ({}, {"data": None}, "method kfac needs data. Give data, or method: plain"),
        ({"method": "whitened"}, {"data": None}, "method whitened needs data. Give data, or method: plain"),
        (
            {"method": "fisher"},
            {"task": None},
            "method fisher needs a model with a trained head. Put finetune",
        ),
        (
            {"recover": 1, "method": "plain"},
            {"data": None},
            "recover needs data and a model with a trained head",
        ),
        ({"recover": 1}, {"task": None}, "recover needs data and a model with a trained head"),
        ({"keep": None}, {}, "no budget. Give keep (the share of weights that stays) or target_speedup"),
        ({"target_speedup": 2}, {}, "keep and target_speedup at once. Give one of them"),
        *(
            (
                {"keep": None, "target_speedup": 2, "method": method},
                {},
                f"target_speedup with method: {method}. Leave method out",
            )
            for method in ("whitened", "fisher", "plain")
        ),
    ],
)
def test_what_cannot_work_is_refused_before_it_runs(options, state, message):
    checked = plan(**state)
    Factorize(**({"keep": 0.5} | options)).check(checked)
    assert len(checked.errors) == 1
    assert message in checked.errors[0]


@pytest.mark.parametrize(
    ("method", "state"),
    [("kfac", {"task": None}), ("fisher", {"family": "gpt2"}), ("plain", {"data": None, "task": None})],
)
def test_what_can_work_is_not_refused(method, state):
    checked = plan(**state)
    Factorize(keep=0.5, method=method).check(checked)
    assert checked.errors == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": 0},
        {"keep": 1},
        {"target_speedup": 1},
        {"target_speedup": 2, "sequence_length": 0},
        {"keep": 0.5, "method": "svd"},
        {"keep": 0.5, "embeddings": 1},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Factorize(**wrong)


METHODS = ["kfac", "whitened", "fisher", "plain"]


def weights_of(model):
    """Weights of the linear layers as they are, and as if none were factorized."""
    layers = [model.get_submodule(name) for name in linears_of(model)]
    whole = sum(layer.in_features * layer.out_features for layer in layers)
    return sum(sum(p.numel() for n, p in m.named_parameters() if "bias" not in n) for m in layers), whole


def text_batch():
    words = tiny_tokenizer()(list(tiny_data().train["text"]), return_tensors="pt")
    return {name: words[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("method", ["whitened", "fisher", "plain"])
def test_every_linear_layer_becomes_a_pair_of_the_rank_asked_for(method, tmp_path):
    running = context(tmp_path)
    artifact = Factorize(keep=0.5, method=method).apply(tiny_artifact(tiny_model("bert")), running)
    pairs = [artifact.model.get_submodule(name) for name in linears_of(artifact.model)]
    assert all(isinstance(pair, LowRankLinear) for pair in pairs)
    assert [pair.rank for pair in pairs[:6]] == [8, 8, 8, 8, 10, 10]  # 0.5 * 32 * 32 / 64; 0.5 * 32 * 64 / 96
    assert running.notes[0] == "rank of query: 8 8 8"
    assert running.notes[-1].startswith("parameters: ")
    assert_reloads(artifact, tmp_path / "model")


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8])
def test_kfac_keeps_the_share_over_all_layers(keep, tmp_path):
    artifact = Factorize(keep=keep).apply(tiny_artifact(tiny_model("bert")), context(tmp_path))
    present, whole = weights_of(artifact.model)
    assert keep - 0.02 < present / whole <= keep


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "albert", "t5", "opt"])
@pytest.mark.parametrize("method", ["kfac", "fisher"])
def test_families_factorize_and_reload_bit_for_bit(family, method, tmp_path):
    artifact = tiny_artifact(tiny_model(family))
    artifact.tokenizer.eos_token = "[SEP]"  # T5 reads the answer there
    artifact = Factorize(keep=0.5, method=method, samples=16).apply(artifact, context(tmp_path))
    present, whole = weights_of(artifact.model)
    assert present <= 0.5 * whole
    assert_reloads(artifact, tmp_path / "model")


def test_a_layer_of_low_rank_is_split_without_error_and_a_needed_one_stays_whole(tmp_path):
    model = tiny_model("bert", layers=1)
    thin = model.bert.encoder.layer[0].intermediate.dense
    thin.weight.data = thin.weight.data[:, :3] @ thin.weight.data[:3]
    batch = text_batch()
    expected = logits(model, batch)
    # All but `thin` needs 32 * 32 * 4 + 32 * 64 of 8192 weights; what is left is enough for its rank of three.
    artifact = Factorize(keep=(4 * 1024 + 2048 + 5 * 96) / 8192).apply(
        tiny_artifact(model), context(tmp_path)
    )
    layer = artifact.model.bert.encoder.layer[0]
    assert isinstance(layer.intermediate.dense, LowRankLinear)
    assert layer.intermediate.dense.rank <= 5
    assert type(layer.output.dense) is torch.nn.Linear
    torch.testing.assert_close(logits(artifact.model, batch), expected, rtol=0, atol=1e-2)


def test_solving_anew_brings_the_answers_back(tmp_path):
    dense, moved = logits(tiny_model("bert"), text_batch()), {}
    for rebuild in (False, True):
        step = Factorize(keep=0.5, method="whitened", reconstruct=rebuild)
        model = step.apply(tiny_artifact(tiny_model("bert")), context(tmp_path)).model
        moved[rebuild] = (logits(model, text_batch()) - dense).square().mean()
    assert moved[True] < moved[False]


@pytest.mark.parametrize("method", METHODS)
def test_a_pair_is_split_anew_only_where_it_gets_smaller(method, tmp_path):
    artifact = Factorize(keep=0.5, method=method).apply(tiny_artifact(tiny_model("bert")), context(tmp_path))
    half, _ = weights_of(artifact.model)
    before = {name: artifact.model.get_submodule(name) for name in linears_of(artifact.model)}
    artifact = Factorize(keep=0.75, method=method).apply(artifact, context(tmp_path))
    pairs = {name: part for name, part in before.items() if isinstance(part, LowRankLinear)}
    assert all(artifact.model.get_submodule(name) is pair for name, pair in pairs.items())
    assert weights_of(artifact.model)[0] <= half
    artifact = Factorize(keep=0.25, method=method).apply(artifact, context(tmp_path))
    present, whole = weights_of(artifact.model)
    assert present <= 0.25 * whole
    assert_reloads(artifact, tmp_path / "model")


@pytest.mark.parametrize("family", ["bert", "electra", "distilbert", "llama"])
def test_pruning_and_factorizing_compose_in_both_orders(family, tmp_path):
    steps = [Prune(sparsity=0.3, samples=16), Factorize(keep=0.5, samples=16)]
    for order in (steps, steps[::-1]):
        artifact = tiny_artifact(tiny_model(family))
        for step in order:
            artifact = step.apply(artifact, context(tmp_path))
        assert_reloads(artifact, tmp_path / order[0].name)


@pytest.mark.parametrize("method", ["kfac", "plain"])
def test_embeddings_are_split_too(method, tmp_path):
    running = context(tmp_path)
    step = Factorize(keep=0.9, embeddings=0.5, method=method)
    artifact = step.apply(tiny_artifact(tiny_model("bert")), running)
    table = artifact.model.get_input_embeddings()
    assert isinstance(table, LowRankEmbedding)
    assert running.notes[0] == "rank of the token embeddings: 6 of 32"  # 0.5 * 20 * 32 / 52 = 6.2
    assert_reloads(artifact, tmp_path / "model")
    with pytest.raises(InputError, match="the token embeddings are factorized already"):
        step.apply(artifact, context(tmp_path))
