"""What inspect says of any family, without loading a weight."""

import pytest
from tiny_models import tiny_artifact, tiny_model

from compress.architectures import blocks
from compress.artifact import save
from compress.inspection import inspect_model
from compress.pruning.surgery import keep_heads, keep_neurons


def inspected(model, folder):
    save(tiny_artifact(model), folder)
    return inspect_model(str(folder))


# By hand for hidden 32, four heads of 8, 64 neurons and three layers. BERT: a layer's attention 4·32·32 + 4·32 =
# 4,224, feed-forward 2·32·64 + 64 + 32 = 4,192. Llama: two key-value heads and no biases, 2·32·32 + 2·16·32 =
# 3,072 and 3·32·64 = 6,144; GPT-2 as BERT; ALBERT holds one layer for all and a map from 16 to 32 wide.
@pytest.mark.parametrize(
    ("family", "attention", "feed_forward", "embeddings"),
    [
        ("bert", 3 * 4224, 3 * 4192, 20 * 32 + 40 * 32 + 2 * 32 + 64),
        ("llama", 3 * 3072, 3 * 6144, 20 * 32),
        ("gpt2", 3 * 4224, 3 * 4192, 20 * 32 + 40 * 32),
        ("albert", 4224 + 64, 4192, (20 + 40 + 2) * 16 + 32 + 16 * 32 + 32),
        ("gpt_neox", 3 * 4224, 3 * 4192, 20 * 32),
    ],
)
def test_parts_are_counted_in_any_family(family, attention, feed_forward, embeddings, tmp_path):
    found = inspected(tiny_model(family), tmp_path / "model")
    assert found.parts["attention"].parameters == attention
    assert found.parts["feed-forward"].parameters == feed_forward
    assert found.layers == 3
    assert found.parts["embeddings"].parameters == embeddings
    assert found.parts["head"].parameters > 0
    assert sum(part.parameters for part in found.parts.values()) == found.parameters


def test_units_left_are_read_off_the_structure(tmp_path):
    model = tiny_model("llama")
    keep_heads(model, blocks(model)[1].attentions[0], [1])
    keep_neurons(model, blocks(model)[2].feed_forwards[0], range(24))
    heads, neurons = inspected(model, tmp_path / "model").prunable
    assert (heads.name, heads.units, heads.width) == ("model.layers.*.self_attn", (2, 1, 2), 16)
    assert (neurons.name, neurons.units, neurons.width) == ("model.layers.*.mlp.down_proj", (64, 64, 24), 1)
    assert not heads.obstacles


def test_obstacles_are_told_by_layer(tmp_path):
    found = inspected(tiny_model("t5"), tmp_path / "model").prunable
    first = next(part for part in found if part.name.endswith("encoder.block.*.layer.0.SelfAttention"))
    assert first.obstacles == {0: "the first layer computes the position bias that all layers share"}


def test_a_family_without_layers_to_prune_is_inspected_all_the_same(tmp_path):
    found = inspected(tiny_model("squeezebert"), tmp_path / "model")
    assert found.prunable == ()
    assert set(found.parts) == {"embeddings", "head", "other"}
