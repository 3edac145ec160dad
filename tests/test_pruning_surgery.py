"""Cutting out heads, neurons and layers."""

import pytest
import torch
from tiny_models import FAMILIES, assert_reloads, logits, tiny_artifact, tiny_model
from torch import nn

from compress.architectures import ffn_widths, head_counts, matrices_of
from compress.errors import InputError
from compress.factorization.linear import factorized
from compress.layers import LowRankLinear
from compress.pruning.layers import evenly_spaced, keep_layers
from compress.pruning.surgery import keep_heads, keep_neurons

WITH_HEADS = [family for family in FAMILIES if family != "mpnet"]


def silence(model, name, columns):
    """Zero what enters `columns` of the module `name`: the units' outputs."""
    mask = torch.ones(model.get_submodule(name).in_features)
    mask[list(columns)] = 0
    model.get_submodule(name).register_forward_pre_hook(lambda module, inputs: (inputs[0] * mask,))


def split(model, rank=6):
    """Make every linear layer of the first transformer layer low-rank."""
    for name in matrices_of(model)[0].values():
        model.set_submodule(name, factorized(model.get_submodule(name), rank))
    return model


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("family", WITH_HEADS)
def test_removing_heads_equals_silencing_them(family, low_rank):
    model, masked = tiny_model(family), tiny_model(family)
    if low_rank:
        split(model), split(masked)
    before = logits(model)
    silence(masked, matrices_of(masked)[0]["attention_output"], [*range(8, 16), *range(24, 32)])
    keep_heads(model, 0, [0, 2])
    torch.testing.assert_close(logits(model), logits(masked), atol=1e-5, rtol=0)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    assert head_counts(model) == [2, 4, 4]


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_removing_neurons_equals_silencing_them(family, low_rank):
    model, masked = tiny_model(family), tiny_model(family)
    if low_rank:
        split(model), split(masked)
    before = logits(model)
    silence(masked, matrices_of(masked)[0]["ffn_out"], range(1, 64, 2))
    keep_neurons(model, 0, range(0, 64, 2))
    torch.testing.assert_close(logits(model), logits(masked), atol=1e-5, rtol=0)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    assert ffn_widths(model) == [32, 64, 64]


def test_a_second_cut_counts_the_heads_that_are_there():
    once, twice = tiny_model("bert"), tiny_model("bert")
    keep_heads(once, 1, [3])
    keep_heads(twice, 1, [1, 3])
    keep_heads(twice, 1, [1])
    assert torch.equal(logits(once), logits(twice))


def test_a_pair_that_became_larger_than_its_matrix_is_merged():
    # Rank 6 of 32×32 saves (384 < 1024); of the 8×32 left by one head it does not (240 < 256) at rank 7.
    model = split(tiny_model("bert"), rank=7)
    names = matrices_of(model)[0]
    keep_heads(model, 0, [2])
    assert type(model.get_submodule(names["query"])) is nn.Linear
    assert isinstance(model.get_submodule(names["ffn_in"]), LowRankLinear)


def prune_some(model):
    if model.config.model_type != "mpnet":
        keep_heads(model, 0, [1, 2, 3])
        keep_heads(model, 2, [0])
    keep_neurons(model, 1, range(24))


def prune_more(model):
    if model.config.model_type != "mpnet":
        keep_heads(model, 0, [0, 2])
    keep_neurons(model, 1, range(8, 16))
    keep_neurons(model, 0, range(40))


def drop_a_layer(model):
    keep_layers(model, [0, 2])


@pytest.mark.parametrize(
    "steps",
    [
        (prune_some,),
        (prune_some, prune_more),
        (split, prune_some),
        (prune_some, split),
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


def test_mpnet_heads_are_refused():
    with pytest.raises(InputError, match=r"mpnet shares one position bias per head.*ffn"):
        keep_heads(tiny_model("mpnet"), 0, [0])


def test_an_empty_layer_is_refused():
    with pytest.raises(InputError, match="nothing would be left"):
        keep_neurons(tiny_model("bert"), 0, [])


def test_int8_layers_are_refused():
    from compress.layers import Int8Linear

    model = tiny_model("bert")
    model.set_submodule(matrices_of(model)[0]["ffn_in"], Int8Linear(32, 64, True))
    with pytest.raises(InputError, match="cannot prune inside Int8Linear. Prune before quantize"):
        keep_neurons(model, 0, [0, 1])
