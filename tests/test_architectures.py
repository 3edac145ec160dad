"""Every family's parts are found, and removing some is exactly silencing them."""

import copy

import pytest
import torch
from tiny_configs import UNTUNED
from tiny_models import ZOO, assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn
from transformers import AutoConfig, AutoModel

from compress.architectures import blocks, layer_count_of, layers_of
from compress.architectures.blocks import Rows
from compress.architectures.reading import features
from compress.errors import InputError
from compress.factorization.run import split
from compress.layers import BiasHeads, Int8Linear, LowRankLinear
from compress.layers.dense import as_linear
from compress.pruning.layers import keep_layers
from compress.pruning.surgery import keep_heads, keep_neurons

# What the fallback finds but cannot prove, by family: such heads are refused, and only they.
UNPROVEN_HEADS = {"deberta", "nystromformer", "bloom", "phi3", "olmo2", "funnel"}
# No heads in linear projections: convolutions mix in, a Fourier transform mixes instead, or raw parameters.
NO_HEADS = {"convbert", "fnet", "xlnet"}
FOUND = [family for family in UNTUNED if family != "squeezebert"]


def named(family, **sizes):
    """A model whose labels have names: stock BART does not save two nameless ones."""
    model = tiny_model(family, **sizes)
    model.config.id2label, model.config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
    return model


def attentions(model):
    return [part for block in blocks(model) for part in block.attentions]


def feed_forwards(model):
    return [part for block in blocks(model) for part in block.feed_forwards]


def silence(model, name, columns):
    """Zero what enters `columns` of the module `name`: the units' outputs."""
    mask = torch.ones(features(model.get_submodule(name))[0])
    mask[list(columns)] = 0
    model.get_submodule(name).register_forward_pre_hook(lambda module, inputs: (inputs[0] * mask,))


def prune(model, masked):
    """Remove units of every part that allows it, another choice in every second; silence them in `masked`."""
    for index, part in enumerate(attentions(model)):
        if not part.obstacle:
            kept = range(index % 2, part.units, 2)
            columns = torch.arange(part.units * part.unit_width).view(part.units, -1)
            silence(masked, part.output, columns[1 - index % 2 :: 2].flatten().tolist())
            keep_heads(model, part, kept)
    for index, part in enumerate(feed_forwards(model)):
        if not part.obstacle:
            silence(masked, part.output, range(1 - index % 2, part.units, 2))
            keep_neurons(model, part, range(index % 2, part.units, 2))


def factorized(model, rank=5):
    """Make every projection of the first block low-rank."""
    block = blocks(model)[0]
    rows = [row for part in block.attentions for row in (part.query, part.key, part.value)]
    rows += [row for part in block.feed_forwards for row in part.inputs]
    outputs = [part.output for part in (*block.attentions, *block.feed_forwards)]
    for name in {*(row.module for row in rows), *outputs}:
        model.set_submodule(name, split(as_linear(model.get_submodule(name)), rank))
    return model


@pytest.mark.parametrize("family", [*ZOO, *FOUND])
def test_removing_units_is_silencing_them_and_reloads_both_ways(family, tmp_path):
    model, masked = named(family), named(family)
    before, old = logits(model), blocks(model)
    prune(model, masked)
    torch.testing.assert_close(logits(model), logits(masked), atol=1e-5, rtol=0)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    for was, now in zip(old, blocks(model), strict=True):
        for whole, left in zip(was.attentions, now.attentions, strict=True):
            assert left.units == whole.units if whole.obstacle else left.units < whole.units
            assert (left.head_size, left.unit_width) == (whole.head_size, whole.unit_width)
        for whole, left in zip(was.feed_forwards, now.feed_forwards, strict=True):
            assert left.units == whole.units // 2
    assert_reloads(tiny_artifact(model), tmp_path / "model")


@pytest.mark.parametrize("family", ZOO)
def test_the_table_names_every_part(family):
    model = tiny_model(family)
    shared, both = family == "albert", family in ("t5", "bart")
    assert len(blocks(model)) == (1 if shared else 6 if both else 3)
    assert layer_count_of(model.config) == 3
    first = ["t5"] * 3 if family == "t5" else []
    assert len([part for part in attentions(model) if part.obstacle]) == len(first)
    for part in attentions(model):
        assert part.units * part.unit_width == features(model.get_submodule(part.output))[0]
    # What is left in the layers once the parts are named is no linear module, but for MobileBERT's bottlenecks.
    named_parts = {row.module for part in feed_forwards(model) for row in part.inputs}
    named_parts |= {part.output for part in (*feed_forwards(model), *attentions(model))}
    for part in attentions(model):
        named_parts |= {row.module for row in (part.query, part.key, part.value, *part.beside)}
    inside = [
        name
        for block in blocks(model)
        for name, module in model.named_modules()
        if name.startswith(f"{block.name}.") and features(module)
    ]
    assert {name for name in inside if "bottleneck" not in name} == named_parts


@pytest.mark.parametrize("family", FOUND)
def test_what_the_fallback_cannot_prove_has_an_obstacle(family):
    model = tiny_model(family)
    heads = [part.obstacle for part in attentions(model)]
    assert bool(heads) == (family not in NO_HEADS)
    if family != "mt5":  # it has T5's row
        assert all(heads) if family in UNPROVEN_HEADS else not any(heads)
    assert feed_forwards(model)
    assert not any(part.obstacle for part in feed_forwards(model))


def test_the_fallback_finds_what_the_table_says(monkeypatch):
    from compress.architectures import families

    for family in ("bert", "distilbert", "modernbert", "llama", "opt", "gpt2"):
        model = tiny_model(family)
        known = blocks(model)
        monkeypatch.delitem(families.FAMILIES, family)
        assert blocks(model) == known
        monkeypatch.undo()


def test_an_obstacle_refuses_that_part_only():
    model = tiny_model("bloom")
    with pytest.raises(InputError, match=r"h\.0\.self_attention: nothing can be removed here: its forward"):
        keep_heads(model, attentions(model)[0], [0])
    keep_neurons(model, feed_forwards(model)[0], range(8))
    logits(model)


def test_a_family_without_linear_projections_is_refused():
    with pytest.raises(InputError, match="no attention or feed-forward part was found .*'squeezebert'"):
        blocks(tiny_model("squeezebert"))


def test_a_model_that_reads_no_text_is_refused():
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 16}
    model = AutoModel.from_config(AutoConfig.for_model("vit", **sizes, patch_size=8, intermediate_size=64))
    with pytest.raises(InputError, match="'vit' cannot be found, as a model of this config does not run on"):
        blocks(model)


def test_discovery_leaves_the_random_state_alone():
    model = tiny_model("gpt_neox")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    blocks(model)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("family", ZOO)
def test_low_rank_pairs_are_cut_at_their_outer_factor(family, tmp_path):
    model, masked = factorized(named(family)), factorized(named(family))
    prune(model, masked)
    torch.testing.assert_close(logits(model), logits(masked), atol=1e-4, rtol=1e-4)
    assert any(isinstance(module, LowRankLinear) for module in model.modules())
    assert_reloads(tiny_artifact(model), tmp_path / "model")


@pytest.mark.parametrize(
    ("family", "units", "width", "size"),
    [
        ("bert", 4, 8, 8),
        ("llama", 2, 16, 8),
        ("qwen3", 2, 32, 16),
        ("falcon", 2, 16, 8),
        ("gpt_neox", 4, 8, 8),
    ],
)
def test_a_unit_is_a_key_value_head_with_its_query_heads(family, units, width, size):
    part = attentions(tiny_model(family))[0]
    assert (part.units, part.unit_width, part.head_size) == (units, width, size)


def test_rows_of_units_in_separate_and_fused_modules():
    # Three heads of two outputs: alone, as the last third of a fused module, and fused head by head.
    assert Rows("v", 0, 6).of_units([0, 2], 3).tolist() == [0, 1, 4, 5]
    assert Rows("qkv", 12, 18).of_units([0, 2], 3).tolist() == [12, 13, 16, 17]
    assert Rows("qkv", 4, 6, period=6).of_units([0, 2], 3).tolist() == [4, 5, 16, 17]


def test_fused_projections_are_read_as_parts():
    model = tiny_model("modernbert")
    part, feed = attentions(model)[0], feed_forwards(model)[0]
    assert [(row.start, row.stop) for row in (part.query, part.key, part.value)] == [
        (0, 32),
        (32, 64),
        (64, 96),
    ]
    assert [(row.start, row.stop) for row in feed.inputs] == [(0, 64), (64, 128)]


def test_a_second_cut_counts_what_is_there():
    for family in ("mpnet", "llama", "gpt2", "deberta-v2"):
        once, twice = tiny_model(family), tiny_model(family)
        last = attentions(once)[-1].units - 1
        keep_heads(once, attentions(once)[1], [last])
        keep_heads(twice, attentions(twice)[1], [0, last] if last > 1 else [0, 1])
        keep_heads(twice, attentions(twice)[1], [1])
        assert torch.equal(logits(once), logits(twice))


def test_conv1d_becomes_linear_where_it_is_cut():
    model = tiny_model("gpt2")
    keep_neurons(model, feed_forwards(model)[0], range(8))
    assert type(model.transformer.h[0].mlp.c_fc) is nn.Linear
    assert type(model.transformer.h[1].mlp.c_fc) is not nn.Linear


def test_a_copy_of_a_model_with_a_shared_bias_stands_alone():
    model = tiny_model("mpnet")
    keep_heads(model, attentions(model)[1], [0, 3])
    other, before = copy.deepcopy(model), logits(model)
    keep_heads(other, attentions(other)[1], [1])
    assert torch.equal(logits(model), before)
    picks = [part for one in (model, other) for part in one.modules() if isinstance(part, BiasHeads)]
    assert [pick.heads for pick in picks] == [[0, 3], [3]]


def test_t5_refuses_heads_of_the_layer_that_computes_the_bias():
    model = tiny_model("t5")
    with pytest.raises(InputError, match="the first layer computes the position bias"):
        keep_heads(model, attentions(model)[0], [0])


def test_a_model_is_read_after_int8():
    model = tiny_model("llama")
    old = blocks(model)
    model.set_submodule(old[0].attentions[0].output, Int8Linear(32, 32, False))
    assert blocks(model) == old
    with pytest.raises(InputError, match="cannot change Int8Linear. Prune and factorize before quantize"):
        keep_heads(model, old[0].attentions[0], [0])


def test_a_decoder_with_cross_attention_has_two_attentions_a_layer():
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 20, "add_cross_attention": True}
    model = AutoModel.from_config(AutoConfig.for_model("gpt2", **sizes)).eval()
    masked, batch = copy.deepcopy(model), tiny_batch()
    both = {"encoder_hidden_states": torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(0))}
    assert len(blocks(model)[0].attentions) == 2
    prune(model, masked)
    with torch.inference_mode():
        torch.testing.assert_close(model(**batch, **both)[0], masked(**batch, **both)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kept", [[0, 2], [1, 2]])
@pytest.mark.parametrize("family", [*ZOO, "gpt_neox", "mbart", "xlnet"])
def test_layers_can_be_dropped_from_a_pruned_model(family, kept, tmp_path):
    model = named(family)
    for part in feed_forwards(model)[1:2]:
        keep_neurons(model, part, range(24))
    before = logits(model)
    keep_layers(model, kept)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    assert layer_count_of(model.config) == 2
    assert len(layers_of(model)) == (1 if family == "albert" else 2)
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_layers_of_another_kind_move_with_their_type():
    model = tiny_model("modernbert", layers=5)
    kinds = model.config.layer_types
    keep_layers(model, [1, 3, 4])
    assert model.config.layer_types == [kinds[1], kinds[3], kinds[4]]


@pytest.mark.parametrize("family", ["funnel", "xlm"])
def test_layers_that_the_config_cannot_count_are_refused_and_nothing_changes(family):
    model = tiny_model(family)
    before = logits(model)
    with pytest.raises(InputError, match=f"{family} cannot do with these layers alone"):
        keep_layers(model, [0, 2])
    assert torch.equal(logits(model), before)


def test_albert_with_several_groups_keeps_its_layers():
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 4, "num_hidden_groups": 2}
    model = AutoModel.from_config(AutoConfig.for_model("albert", intermediate_size=64, **sizes))
    assert len(blocks(model)) == 2
    with pytest.raises(InputError, match="several groups of layers share weights"):
        keep_layers(model, [0, 3])


def test_t5_keeps_its_first_layer_where_the_next_lacks_heads():
    model = tiny_model("t5")
    keep_heads(model, attentions(model)[1], [0])
    with pytest.raises(InputError, match="drop layers before heads"):
        keep_layers(model, [1, 2])
    keep_layers(model, [0, 1])


def test_gpt2_that_scales_by_the_layers_place_is_refused():
    model = tiny_model("gpt2")
    config = copy.deepcopy(model.config)
    config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(InputError, match=r"gpt2 cannot do with these layers alone.*\(in h\.1\.attn\)"):
        keep_layers(type(model)(config), [0, 2])
