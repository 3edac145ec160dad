"""What differs from the config is recorded and rebuilt: widths, norms, attributes, ties."""

import pytest
import torch
from tiny_models import tiny_batch, tiny_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from compress.architectures import blocks
from compress.errors import FolderError
from compress.layers import BiasHeads
from compress.pruning.surgery import keep_heads, keep_neurons
from compress.structure import apply, describe


def narrow(model, width):
    """Keep the first `width` channels of the residual stream, 32 wide, in every module that touches it.

    No other width is 32: heads are four of 4 and the feed-forward part has 48 neurons.
    """
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            index = tuple(slice(width) if size == 32 else slice(None) for size in parameter.shape)
            setattr(module, name, nn.Parameter(parameter.detach()[index].clone()))
        for name in ("in_features", "out_features", "embedding_dim"):
            if vars(module).get(name) == 32:
                setattr(module, name, width)
        if isinstance(module, nn.LayerNorm):
            module.normalized_shape = (width,)
    model.tie_weights()


def language_model(family, **sizes):
    shape = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = AutoConfig.for_model(family, **shape, **ids, **sizes, tie_word_embeddings=True)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def rebuilt(model):
    """A model built from the config and the structure alone, with the weights loaded strictly."""
    other = type(model)(model.config)
    apply(other, describe(model))
    other.tie_weights()
    other.load_state_dict(model.state_dict())
    return other.eval()


@pytest.mark.parametrize(
    ("family", "sizes", "norm"),
    [
        ("llama", {"head_dim": 4, "num_key_value_heads": 2, "intermediate_size": 48}, "Attributes"),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 40}, "LayerNorm"),
    ],
)
def test_a_narrower_residual_stream_is_rebuilt_and_stays_tied(family, sizes, norm, tmp_path):
    model = language_model(family, **sizes)
    if family == "opt":  # its heads are 32 wide together; two of four are not
        for block in blocks(model):
            keep_heads(model, block.attentions[0], [0, 1])
    narrow(model, 24)
    structure = describe(model)
    norms = [name for name in structure if "norm" in name]
    assert len(norms) == 5
    assert all(structure[name]["type"] == norm for name in norms)
    other, batch = rebuilt(model), tiny_batch()
    with torch.inference_mode():
        assert torch.equal(other(**batch).logits, model(**batch).logits)
    assert other.lm_head.weight is other.get_input_embeddings().weight


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_tied_weights_are_saved_once_and_tied_after_both_ways_of_loading(family, tmp_path):
    from tiny_models import tiny_tokenizer

    from compress import reload
    from compress.artifact import Artifact, save
    from compress.manifest import Manifest

    own = {"llama": {"num_key_value_heads": 2}, "gpt2": {}, "opt": {"word_embed_proj_dim": 32}}
    model = language_model(family, max_position_embeddings=40, **own[family])
    keep_neurons(model, blocks(model)[0].feed_forwards[0], range(8))
    save(Artifact(model, tiny_tokenizer(), Manifest(source="tiny")), tmp_path / "model")
    reload.install()
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    with torch.inference_mode():
        assert torch.equal(other(**tiny_batch()).logits, model(**tiny_batch()).logits)
    assert other.lm_head.weight is other.get_input_embeddings().weight


def test_only_attributes_of_changed_modules_are_recorded():
    model = tiny_model("opt")
    keep_heads(model, blocks(model)[1].attentions[0], [0])
    structure = describe(model)
    attributes = {name: entry for name, entry in structure.items() if entry["type"] == "Attributes"}
    assert attributes == {
        "model.decoder.layers.1.self_attn": {"type": "Attributes", "values": {"num_heads": 1, "embed_dim": 8}}
    }
    other = rebuilt(model)
    assert other.model.decoder.layers[1].self_attn.num_heads == 1
    model.model.decoder.layers[0].self_attn.seen = 7  # a counter, say, of a module that is as it was
    assert describe(model) == structure


def test_a_subclass_of_linear_is_recorded_by_its_shapes():
    model = tiny_model("falcon")
    feed = blocks(model)[0].feed_forwards[0]
    kind = type(model.get_submodule(feed.output))
    assert kind is not nn.Linear
    keep_neurons(model, feed, range(8))
    assert describe(model)[feed.output] == {
        "type": "Attributes",
        "shapes": {"weight": [32, 8]},
        "values": {"in_features": 8},
    }
    assert type(rebuilt(model).get_submodule(feed.output)) is kind


def test_a_shared_bias_is_recorded_beside_its_projections():
    model = tiny_model("mpnet")
    keep_heads(model, blocks(model)[2].attentions[0], [1, 3])
    name = "mpnet.encoder.layer.2.attention.attn.bias_heads"
    assert describe(model)[name] == {"type": "BiasHeads", "total": 4, "heads": [1, 3]}
    assert isinstance(rebuilt(model).get_submodule(name), BiasHeads)


def test_a_norm_where_the_config_has_none_is_recorded():
    model = tiny_model("modernbert")
    norm = nn.LayerNorm(32, eps=1e-3, bias=False)
    model.model.layers[0].attn_norm = norm
    found = describe(model)["model.layers.0.attn_norm"]
    assert found == {"type": "LayerNorm", "shape": [32], "eps": 1e-3, "affine": True, "bias": False}
    assert rebuilt(model).model.layers[0].attn_norm.eps == 1e-3


@pytest.mark.parametrize("entry", [{"type": "Identity"}, {"type": "Attributes", "values": {"a": 1}}])
def test_a_module_that_the_config_does_not_build_is_refused(entry):
    with pytest.raises(FolderError, match=r"bert.encoder.layer.9: the structure names a module"):
        apply(tiny_model("bert"), {"bert.encoder.layer.9": entry})
