"""The prune pass: what it refuses and what it does."""

import re
import subprocess
import sys
from dataclasses import replace

import datasets
import pytest
import torch
from pydantic import ValidationError
from test_factorization_pass import context, plan
from tiny_data import tiny_data, write_reviews
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_model, tiny_tokenizer

from compress import pipeline
from compress.artifact import load, save
from compress.calibration.examples import calibration
from compress.data import DataConfig
from compress.errors import InputError
from compress.passes.finetune import Finetune
from compress.passes.prune import Prune
from compress.pipeline import Step
from compress.pruning.parts import (
    attentions_of,
    feed_forwards_of,
    parts_of,
    total_parameters,
    unit_parameters,
)
from compress.pruning.run import Budget, prune_units
from compress.pruning.surgery import keep_heads, keep_neurons


def head_counts(model):
    return [part.units for part in attentions_of(model)]


def ffn_widths(model):
    return [part.units for part in feed_forwards_of(model)]


def uneven(family="bert"):
    model = tiny_model(family, layers=4)
    keep_heads(model, attentions_of(model)[1], [0, 2] if family != "llama" else [1])
    keep_neurons(model, feed_forwards_of(model)[2], range(24))
    return model


def test_importing_the_passes_is_light():
    code = (
        "import sys, compress.passes.prune, compress.passes.factorize;"
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_yaml_form_is_the_pass():
    step = Prune.model_validate(
        {"pass": "prune", "heads": 0.25, "ffn": 0.5, "criterion": "taylor", "steps": 3}
    )
    assert step == Prune(heads=0.25, ffn=0.5, criterion="taylor", steps=3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 1},
        {"ffn": -0.1},
        {"layers": 0},
        {"criterion": "l2"},
        {"head": 0.5},
        {"sparsity": 1},
        {"target_speedup": 1},
        {"steps": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Prune(**wrong)


@pytest.mark.parametrize(
    ("options", "state", "message"),
    [
        ({"ffn": 0.5}, {"quantized": True}, "a quantized model cannot be pruned. Put prune before quantize"),
        ({"ffn": 0.5}, {"exported": True}, "an exported model cannot be pruned. Put prune before"),
        ({}, {}, "nothing to prune. Give sparsity or target_speedup, heads or ffn"),
        ({"sparsity": 0.5, "flops": 0.5}, {}, "sparsity and flops at once. Give one of them"),
        ({"sparsity": 0.5, "target_speedup": 2}, {}, "sparsity and target_speedup at once"),
        ({"flops": 0.5, "heads": 0.5}, {}, "flops and heads and ffn at once"),
        ({"sparsity": 0.5, "ffn": 0.5}, {}, "sparsity and heads and ffn at once"),
        ({"target_speedup": 2, "scope": "local"}, {}, "target_speedup with scope: local. Leave scope out"),
        ({"ffn": 0.5}, {"data": None}, "criterion obs needs data. Give data, or criterion: magnitude"),
        ({"ffn": 0.5, "criterion": "activation"}, {"data": None}, "criterion activation needs data"),
        (
            {"ffn": 0.5, "criterion": "fisher"},
            {"task": None},
            "criterion fisher needs a model with a trained head. Put finetune before it, or use criterion: obs",
        ),
        (
            {"ffn": 0.5, "criterion": "taylor"},
            {"task": None},
            "criterion taylor needs a model with a trained",
        ),
        ({"layers": 2, "choose_layers": "effect"}, {"data": None}, "choose_layers: effect needs data and"),
        ({"layers": 2, "choose_layers": "effect"}, {"task": None}, "choose_layers: effect needs data and"),
        ({"layers": 2, "recover": 1}, {"data": None}, "recover needs data and a model with a trained head"),
        (
            {"sparsity": 0.5, "recover": 1},
            {"task": None},
            "recover needs data and a model with a trained head",
        ),
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
        ({"ffn": 0.5, "criterion": "random"}, {"data": None, "task": None}),
        ({"sparsity": 0.5}, {"task": None}),
        ({"sparsity": 0.5, "layers": 2, "hidden": 16, "recover": 0.5}, {}),
        ({"layers": 2}, {"data": None, "task": None}),
        ({"ffn": 0.5, "layers": 2}, {"family": "mpnet"}),
        ({"heads": 0.5}, {"family": "gpt2"}),
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


@pytest.mark.parametrize("criterion", ["obs", "fisher", "taylor", "activation", "magnitude", "random"])
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


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("family", "criterion"), [("bert", "obs"), ("llama", "fisher"), ("gpt2", "random")])
def test_the_share_of_weights_asked_for_goes(family, criterion, steps, share, tmp_path):
    model = uneven(family)
    before = total_parameters(model, parts_of(model))
    running = context(tmp_path)
    Prune(sparsity=share, criterion=criterion, steps=steps, samples=16).apply(tiny_artifact(model), running)
    gone = 1 - total_parameters(model, parts_of(model)) / before
    coarse = 8 * unit_parameters(model, feed_forwards_of(model)[0]) / before  # neurons go by eight
    slack = max(0.015, coarse) + (
        coarse if steps > 1 else 0
    )  # what a step leaves unused may be lost to the next
    assert share - 1e-6 <= gone <= share + slack
    assert f"({100 * gone:.1f}% removed)" in running.notes[2]


def test_the_share_of_operations_counts_attention_over_the_text(tmp_path):
    def operations(model, length):
        linear = 2 * total_parameters(model, parts_of(model))
        return linear + sum(4 * length * part.units * part.unit_width for part in attentions_of(model))

    for length in (8, 4096):
        model = tiny_model("bert", layers=4)
        before = operations(model, length)
        step = Prune(flops=0.5, sequence_length=length, criterion="magnitude")
        step.apply(tiny_artifact(model), context(tmp_path))
        assert 0.5 <= 1 - operations(model, length) / before <= 0.53
    assert sum(head_counts(model)) <= 8, "at 4096 tokens nearly all operations are attention's"


@pytest.mark.parametrize("steps", [1, 3])
def test_local_takes_the_same_from_every_part(steps, tmp_path):
    model = uneven()
    step = Prune(sparsity=0.5, scope="local", steps=steps, samples=16)
    step.apply(tiny_artifact(model), context(tmp_path))
    assert head_counts(model) == [2, 1, 2, 2]
    assert ffn_widths(model) == [32, 32, 8, 32] or ffn_widths(model) == [32, 32, 16, 32]  # of 24: 12, as near


def test_relative_scores_spread_over_heads_and_neurons_alike(tmp_path):
    # A head weighs 16 times a neuron and has one score as a neuron has: what goes must not be heads alone.
    model = tiny_model("bert", layers=4)
    Prune(sparsity=0.5, criterion="random").apply(tiny_artifact(model), context(tmp_path))
    assert 5 <= sum(head_counts(model)) <= 11
    assert 64 <= sum(ffn_widths(model)) <= 192


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0.9}, "the least that can be left costs 3"),  # 12 heads, one stays in each of three layers
        ({"sparsity": 0.99}, "the least that can be left costs"),
        ({"ffn": 0.95, "scope": "local"}, r"taking 95% leaves less than 8 of 64 units. At most 88% can go"),
    ],
)
def test_more_than_can_go_is_refused_with_the_nearest(options, message, tmp_path):
    step = Prune(criterion="magnitude", reconstruct=False, **options)
    with pytest.raises(InputError, match=message):
        step.apply(tiny_artifact(tiny_model("bert")), context(tmp_path))


def test_grouped_heads_go_by_group(tmp_path):
    artifact = Prune(heads=0.5, samples=16).apply(tiny_artifact(tiny_model("llama")), context(tmp_path))
    assert sum(head_counts(artifact.model)) == 3  # of two key-value heads in three layers
    first = attentions_of(artifact.model)[0]
    layer = artifact.model.get_submodule(first.name)
    assert layer.q_proj.out_features == 2 * layer.k_proj.out_features == 16 * first.units
    assert_reloads(artifact, tmp_path / "model")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_dead_heads_and_neurons_go_first_and_are_not_missed(family, tmp_path):
    model = tiny_model(family)
    attention, feed = attentions_of(model)[1], feed_forwards_of(model)[2]
    dead = range(3, 51)
    model.get_submodule(attention.output).weight.data[:, : attention.unit_width] = 0
    model.get_submodule(feed.output).weight.data[:, 3:51] = 0
    expected = logits(model)
    pruned = tiny_artifact(model)
    Prune(heads=1 / sum(head_counts(model)), reconstruct=False).apply(pruned, context(tmp_path))
    Prune(ffn=48 / 192, reconstruct=False).apply(pruned, context(tmp_path))
    assert [part.units for part in attentions_of(model)].index(attention.units - 1) == 1
    assert ffn_widths(model) == [64, 64, 64 - len(dead)]
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)


def test_solving_anew_brings_the_answers_back(tmp_path):
    words = tiny_tokenizer()(list(tiny_data().train["text"]), return_tensors="pt")
    texts = {name: words[name] for name in ("input_ids", "attention_mask")}
    for family in ("bert", "llama", "gpt2"):
        dense, moved = logits(tiny_model(family), texts), {}
        for rebuild in (False, True):
            model = tiny_model(family)
            step = Prune(sparsity=0.3, reconstruct=rebuild)
            step.apply(tiny_artifact(model), context(tmp_path))
            moved[rebuild] = (logits(model, texts) - dense).square().mean()
        assert moved[True] < moved[False]


def test_labels_make_no_difference_to_obs(tmp_path):
    data = tiny_data()
    flipped = data.train.to_dict() | {"label": [1 - label for label in data.train["label"]]}
    other = replace(data, train=datasets.Dataset.from_dict(flipped))
    models = []
    for seen in (data, other):
        running = replace(context(tmp_path), data=seen)
        artifact = Prune(sparsity=0.5, samples=16).apply(tiny_artifact(tiny_model("bert")), running)
        models.append(artifact.model)
    assert torch.equal(logits(models[0]), logits(models[1]))


def test_a_model_without_a_task_is_pruned_by_obs(tmp_path):
    artifact = tiny_artifact(tiny_model("bert"))
    artifact = replace(artifact, manifest=artifact.manifest.model_copy(update={"task": None}))
    Prune(sparsity=0.5, samples=16).apply(artifact, context(tmp_path))
    assert sum(head_counts(artifact.model)) < 12


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "gpt2", "llama", "albert", "t5", "opt"])
def test_families_can_be_pruned_twice(family, tmp_path):
    artifact = tiny_artifact(tiny_model(family))
    artifact.tokenizer.eos_token = "[SEP]"  # T5 and BART read the answer there
    for heads in (0.3, 0.1):
        if family == "mpnet":  # whose heads share a table of position biases
            heads = 0
        artifact = Prune(heads=heads, ffn=0.3, samples=16).apply(artifact, context(tmp_path))
    assert_reloads(artifact, tmp_path / "model")


@pytest.mark.parametrize(
    ("criterion", "option"), [("random", "sparsity"), ("fisher", "ffn"), ("obs", "sparsity")]
)
def test_the_seed_decides(criterion, option, tmp_path):
    results = [
        Prune(**{option: 0.5}, criterion=criterion, samples=8).apply(
            tiny_artifact(tiny_model("bert")), context(tmp_path, seed)
        )
        for seed in (0, 0, 1)
    ]
    answers = [logits(result.model) for result in results]
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_layers_are_chosen_by_their_effect(tmp_path):
    model = tiny_model("bert", layers=4)
    for name in ("attention.output", "output"):  # layer 2 hands on nearly what it gets
        part = model.bert.encoder.layer[2].get_submodule(name)
        part.dense.weight.data.mul_(1e-3)
        part.dense.bias.data.mul_(1e-3)
        part.LayerNorm.weight.data.fill_(1)
        part.LayerNorm.bias.data.zero_()
    for layer in (0, 1, 3):
        model.bert.encoder.layer[layer].output.LayerNorm.weight.data.fill_(1)
        model.bert.encoder.layer[layer].output.LayerNorm.bias.data.zero_()
    running = context(tmp_path)
    artifact = Prune(layers=3, choose_layers="effect", samples=16).apply(tiny_artifact(model), running)
    assert running.notes[0] == "layers kept (from 0): 0 1 3"
    assert_reloads(artifact, tmp_path / "model")


def test_the_hidden_width_goes_with_heads_and_neurons(tmp_path):
    running = context(tmp_path)
    artifact = Prune(hidden=24, sparsity=0.3, samples=16).apply(tiny_artifact(tiny_model("bert")), running)
    assert artifact.model.bert.encoder.layer[0].output.dense.out_features == 24
    assert "hidden width: 24" in running.notes
    assert_reloads(artifact, tmp_path / "model")


def test_budgets_are_met_in_one_call_of_the_library_too():
    artifact = tiny_artifact(tiny_model("bert"))
    examples = calibration(artifact, tiny_data(), 16, seed=0)
    prune_units(artifact, examples, "obs", Budget(heads=0.5))
    assert sum(head_counts(artifact.model)) == 6
    assert ffn_widths(artifact.model) == [64, 64, 64]


def test_recovery_trains_on_labels_and_the_model_as_it_came_in(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    path = write_reviews(tmp_path / "reviews.csv")
    data = DataConfig(source=str(path))
    save(tiny_artifact(tiny_model("bert")), tmp_path / "model")
    taught = Step(Finetune(epochs=8, learning_rate=5e-3, max_length=16, bf16=False), tmp_path / "taught")
    pipeline.run(pipeline.plan(str(tmp_path / "model"), [taught], data), tmp_path / "work")
    texts = [line.partition(",")[0] for line in path.read_text().splitlines()[1:]]
    batch = dict(tiny_tokenizer()(texts, padding=True, return_tensors="pt"))
    batch.pop("token_type_ids", None)
    dense, moved = logits(load(tmp_path / "taught").model, batch).log_softmax(-1), {}
    for epochs in (None, 12):
        rough = Prune(sparsity=0.7, criterion="random", reconstruct=False, recover=epochs)
        step = Step(rough, tmp_path / f"recover-{epochs}")
        pipeline.run(pipeline.plan(str(tmp_path / "taught"), [step], data), tmp_path / f"work-{epochs}")
        pruned = logits(load(step.folder).model, batch).log_softmax(-1)
        divergence = torch.nn.functional.kl_div(pruned, dense, reduction="batchmean", log_target=True)
        moved[epochs] = divergence.item()
    assert moved[12] < moved[None]


def test_heads_that_cannot_go_are_refused_with_the_reason(tmp_path):
    model = tiny_model("bloom")
    with pytest.raises(InputError, match=r"no heads were found that can be removed: its forward"):
        Prune(heads=0.5, criterion="magnitude").apply(tiny_artifact(model), context(tmp_path))
