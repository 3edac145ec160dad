"""Cutting out heads, neurons and layers."""

import pytest
import torch
from tiny_models import FAMILIES, assert_reloads, logits, tiny_artifact, tiny_model
from torch import nn

from compress.architectures import blocks
from compress.errors import InputError
from compress.factorization.run import split
from compress.layers import LowRankLinear
from compress.pruning.layers import evenly_spaced, keep_layers
from compress.pruning.surgery import keep_heads, keep_neurons


def attention(model, layer):
    return blocks(model)[layer].attentions[0]


def feed_forward(model, layer):
    return blocks(model)[layer].feed_forwards[0]


def factorized(model, rank=6):
    """Make every linear layer of the first transformer layer low-rank."""
    heads, feed = attention(model, 0), feed_forward(model, 0)
    rows = (heads.query, heads.key, heads.value, *feed.inputs)
    for name in (*(row.module for row in rows), heads.output, feed.output):
        model.set_submodule(name, split(model.get_submodule(name), rank))
    return model


def test_a_pair_that_became_larger_than_its_matrix_is_merged():
    # Rank 6 of 32×32 saves (384 < 1024); of the 8×32 left by one head it does not (240 < 256) at rank 7.
    model = factorized(tiny_model("bert"), rank=7)
    keep_heads(model, attention(model, 0), [2])
    assert type(model.bert.encoder.layer[0].attention.self.query) is nn.Linear
    assert isinstance(model.bert.encoder.layer[0].intermediate.dense, LowRankLinear)


def prune_some(model):
    keep_heads(model, attention(model, 0), [1, 2, 3])
    keep_heads(model, attention(model, 2), [0])
    keep_neurons(model, feed_forward(model, 1), range(24))


def prune_more(model):
    keep_heads(model, attention(model, 0), [0, 2])
    keep_neurons(model, feed_forward(model, 1), range(8, 16))
    keep_neurons(model, feed_forward(model, 0), range(40))


def drop_a_layer(model):
    keep_layers(model, [0, 2])


@pytest.mark.parametrize(
    "steps",
    [
        (prune_some,),
        (prune_some, prune_more),
        (factorized, prune_some),
        (prune_some, factorized),
        (prune_some, drop_a_layer),
        (drop_a_layer,),
    ],
    ids=lambda steps: "-".join(step.__name__ for step in steps),
)
@pytest.mark.parametrize("family", FAMILIES)
def test_pruned_models_reload_bit_for_bit(family, steps, tmp_path):
    model = tiny_model(family)
    before = logits(model)
    for step in steps:
        step(model)
    assert not torch.equal(logits(model), before)
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_a_model_with_fewer_layers_is_an_ordinary_folder(tmp_path):
    model = tiny_model("distilbert")
    keep_layers(model, [0, 2])
    assert_reloads(tiny_artifact(model), tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("total", "keep", "expected"),
    [(6, 3, [1, 3, 5]), (12, 3, [3, 7, 11]), (6, 4, [0, 2, 3, 5]), (6, 6, [0, 1, 2, 3, 4, 5]), (6, 1, [5])],
)
def test_kept_layers_end_groups_of_equal_size(total, keep, expected):
    assert evenly_spaced(total, keep) == expected


def test_kept_layers_have_the_original_weights_and_number_themselves_anew():
    model, full = tiny_model("bert"), tiny_model("bert")
    keep_layers(model, [0, 2])
    assert model.config.num_hidden_layers == 2
    old, new = full.bert.encoder.layer[2], model.bert.encoder.layer[1]
    assert torch.equal(new.output.dense.weight, old.output.dense.weight)
    assert new.attention.self.layer_idx == 1


@pytest.mark.parametrize("indices", [[], [2, 1], [0, 3], [-1], [1, 1]])
def test_impossible_layers_are_refused(indices):
    with pytest.raises(InputError, match=r"cannot keep layers .* ascending indices from 0 to 2"):
        keep_layers(tiny_model("bert"), indices)


@pytest.mark.parametrize("keep", [0, 7])
def test_impossible_number_of_layers_is_refused(keep):
    with pytest.raises(InputError, match=f"cannot keep {keep} of 6 layers"):
        evenly_spaced(6, keep)


def test_an_empty_layer_is_refused():
    model = tiny_model("bert")
    with pytest.raises(InputError, match=r"output.dense: nothing would be left"):
        keep_neurons(model, feed_forward(model, 0), [])


@pytest.mark.parametrize("heads", [[0, 4], [1, 0], [2, 2], [-1]])
def test_impossible_heads_are_refused(heads):
    model = tiny_model("bert")
    with pytest.raises(InputError, match=r"cannot keep units .* of 4. Give ascending indices from 0 to 3"):
        keep_heads(model, attention(model, 0), heads)


def test_int8_layers_are_refused():
    from compress.layers import Int8Linear

    model = tiny_model("bert")
    model.bert.encoder.layer[0].intermediate.dense = Int8Linear(32, 64, True)
    with pytest.raises(InputError, match="cannot change Int8Linear. Prune and factorize before quantize"):
        keep_neurons(model, feed_forward(model, 0), [0, 1])
