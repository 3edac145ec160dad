"""Layers chosen by what their absence does to the answers."""

import copy

import pytest
import torch
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn

from compress.architectures import layers_of
from compress.errors import InputError
from compress.pruning.layer_effect import drop_by_effect, layer_effects
from compress.pruning.layers import keep_layers

FAMILIES = (
    "bert",
    "distilbert",
    "electra",
    "mpnet",
    "deberta-v3",
    "modernbert",
    "gpt2",
    "llama",
    "t5",
    "bart",
)


def batch_for(model, seed=0):
    config = model.config
    return tiny_batch(seed, eos=config.eos_token_id if config.is_encoder_decoder else None)


def without(model, *gone):
    """The answers of a copy that lacks some layers."""
    small = copy.deepcopy(model)
    keep_layers(small, [index for index in range(len(layers_of(model))) if index not in gone])
    return logits(small, batch_for(model))


def divergence(expected, found):
    """Mean over examples of Σ p (log p - log p')."""
    p, q = expected.double().softmax(-1), found.double().softmax(-1)
    return float((p * (p.log() - q.log())).sum(-1).mean())


def silent(model, index):
    """Make a layer of BERT return its input: both sublayers add nothing, and the norms have nothing to do."""
    layer = layers_of(model)[index]
    for linear in (layer.attention.output.dense, layer.output.dense):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    layer.attention.output.LayerNorm = layer.output.LayerNorm = nn.Identity()


@pytest.mark.parametrize("family", FAMILIES)
def test_passing_a_layer_over_is_what_dropping_it_does(family):
    model = tiny_model(family)
    before = logits(model, batch_for(model))
    effects = layer_effects(model, [batch_for(model)])
    assert torch.equal(logits(model, batch_for(model)), before)
    # ModernBERT's config has no name for what is left without layer 0, whose norm is the identity.
    known = range(1 if family == "modernbert" else 0, 3)
    for index in known:
        assert effects[index] == pytest.approx(divergence(before, without(model, index)), rel=1e-3, abs=1e-7)
    assert all(effect > 1e-6 for effect in effects)


def test_batches_of_different_size_count_by_their_examples():
    model = tiny_model("bert")
    whole = tiny_batch()
    parts = [{name: value[rows] for name, value in whole.items()} for rows in (slice(3), slice(3, 4))]
    assert layer_effects(model, parts) == pytest.approx(layer_effects(model, [whole]), rel=1e-4)


def test_regression_is_measured_by_squared_differences():
    model = tiny_model("bert", num_labels=1)
    expected = (logits(model) - without(model, 1)).square().mean()
    assert layer_effects(model, [tiny_batch()])[1] == pytest.approx(float(expected), rel=1e-3)


def test_padding_does_not_count_where_every_token_has_an_answer():
    from transformers import AutoModelForTokenClassification

    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(tiny_model("bert").config).eval()
    longer = {name: nn.functional.pad(value, (0, 5)) for name, value in tiny_batch().items()}
    assert layer_effects(model, [longer]) == pytest.approx(layer_effects(model, [tiny_batch()]), rel=1e-3)


def test_the_layers_that_do_nothing_go_first():
    model = tiny_model("bert", layers=5)
    silent(model, 1), silent(model, 3)
    before = logits(model)
    effects = layer_effects(model, [tiny_batch()])
    assert (effects[1], effects[3]) == (0, 0)
    assert min(effects[0], effects[2], effects[4]) > 1e-6
    assert drop_by_effect(model, 3, [tiny_batch()]) == [0, 2, 4]
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_every_step_measures_what_the_steps_before_left(family):
    model = tiny_model(family, layers=4)
    reference, kept = logits(model, batch_for(model)), [0, 1, 2, 3]
    while len(kept) > 2:
        effect = {
            index: divergence(reference, without(model, *({0, 1, 2, 3} - set(kept)), index)) for index in kept
        }
        kept.remove(min(kept, key=effect.get))
    assert drop_by_effect(model, 2, [batch_for(model)]) == kept


def test_what_is_left_reloads_and_is_in_the_mode_it_was(tmp_path):
    model = tiny_model("bert").train()
    drop_by_effect(model, 1, [tiny_batch()])
    assert model.training
    assert not any("forward" in vars(module) for module in model.modules())
    assert_reloads(tiny_artifact(model.eval()), tmp_path / "model")


def test_layers_that_share_weights_are_not_measured():
    model = tiny_model("albert")
    with pytest.raises(InputError, match="albert: the layers share their weights"):
        layer_effects(model, [tiny_batch()])
    assert len(drop_by_effect(model, 2, [tiny_batch()])) == 2
    assert model.config.num_hidden_layers == 2


def test_no_examples_and_impossible_numbers_are_refused():
    model = tiny_model("bert")
    with pytest.raises(InputError, match="no examples to measure layers with"):
        drop_by_effect(model, 2, [])
    with pytest.raises(InputError, match="cannot keep 4 of 3 layers"):
        drop_by_effect(model, 4, [tiny_batch()])
