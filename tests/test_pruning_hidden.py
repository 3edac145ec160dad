"""Residual channels are removed from the whole model; what is left is an ordinary narrower one."""

import copy

import pytest
import torch
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from compress.architectures import blocks
from compress.errors import InputError
from compress.factorization.embedding import factorize_input_embedding
from compress.factorization.run import split
from compress.layers import Int8Linear, LowRankLinear
from compress.pruning.hidden import channel_effects, channel_norms, prune_hidden
from compress.pruning.surgery import keep_heads, keep_neurons
from compress.structure import apply, describe

GONE = [0, 3, 7, 12, 18, 19, 25, 31]
KEPT = [channel for channel in range(32) if channel not in GONE]
SCORES = torch.tensor([float(channel in KEPT) for channel in range(32)])
# What a config calls the width of the stream and the number of heads.
NARROW = {
    "bert": {"hidden_size": 24, "num_attention_heads": 3},
    "roberta": {"hidden_size": 24, "num_attention_heads": 3},
    "electra": {"hidden_size": 24, "num_attention_heads": 3},
    "mpnet": {"hidden_size": 24, "num_attention_heads": 3},
    "distilbert": {"dim": 24, "n_heads": 3},
    "gpt2": {"n_embd": 24, "n_head": 3},
    "opt": {"hidden_size": 24, "num_attention_heads": 3, "word_embed_proj_dim": 24},
    "llama": {"hidden_size": 24},  # its heads have a width of their own
    "modernbert": {"hidden_size": 24, "num_attention_heads": 3},
}


def batch_for(model):
    config = model.config
    return tiny_batch(eos=config.eos_token_id if config.is_encoder_decoder else None)


def sliced(tensor, shape):
    """Cut a tensor to a shape: 32 channels to `KEPT`, 4 heads to the first 3."""
    for axis, (size, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        if size != wanted:
            assert (size, wanted) in ((32, 24), (4, 3))
            tensor = tensor.index_select(axis, torch.tensor(KEPT if size == 32 else range(3)))
    return tensor


@pytest.mark.parametrize("family", NARROW)
def test_the_result_is_an_ordinary_model_of_that_width(family):
    # 32 channels with four heads of 8 become 24 with three heads of 8, which a config can say.
    model = tiny_model(family)
    if family != "llama":
        for block in blocks(model):
            keep_heads(model, block.attentions[0], [0, 1, 2])
    state = copy.deepcopy(model.base_model).state_dict()
    assert prune_hidden(model, 24, batch_for(model), SCORES) == KEPT
    config = copy.deepcopy(model.config)
    config.update(NARROW[family])
    ordinary = AutoModel.from_config(config).eval()
    wanted = {name: tensor for name, tensor in ordinary.state_dict().items() if "pooler" not in name}
    for name, tensor in wanted.items():
        # Pruning heads has made a plain linear layer of GPT-2's transposed one.
        transposed = "gpt2" in family and name.endswith(("c_attn.weight", "attn.c_proj.weight"))
        wanted[name] = sliced(state[name].T if transposed else state[name], tensor.shape)
    ordinary.load_state_dict(wanted, strict=False)
    with torch.inference_mode():
        found = model.base_model(**batch_for(model)).last_hidden_state
        torch.testing.assert_close(found, ordinary(**batch_for(model)).last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "mpnet", "llama", "gpt2", "t5", "bart"]
)
def test_a_narrower_model_reloads(family, tmp_path):
    model = tiny_model(family, layers=2)
    before = logits(model, batch_for(model))
    kept = prune_hidden(model, 16, batch_for(model))
    assert len(kept) == 16
    assert not torch.allclose(logits(model, batch_for(model)), before, atol=1e-3)
    assert {part.output: model.get_submodule(part.output).out_features for part in attentions(model)} == {
        part.output: 16 for part in attentions(model)
    }
    assert_reloads(tiny_artifact(model), tmp_path / "model", batch_for(model))


def attentions(model):
    return [attention for block in blocks(model) for attention in block.attentions]


def test_removing_channels_of_zeros_changes_the_normalisation_alone():
    # With zeros in 8 of 32 channels the mean square over all is 24/32 of that over the others:
    # w x / √(¾ m + ε) = (w / √¾) x / √(m + ε / ¾).
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[:, GONE] = 0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[GONE] = 0
            layer.mlp.down_proj.weight[GONE] = 0
    before = logits(model)
    prune_hidden(model, 24, tiny_batch(), SCORES)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.weight /= 0.75**0.5
                module.variance_epsilon /= 0.75
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)


def test_the_channels_with_the_smallest_weights_go():
    model = tiny_model("bert")
    norms = channel_norms(model, tiny_batch())
    # Of the embeddings (20 + 40 + 2 rows), two vectors for each norm of 1 + 2·3, a row and a bias of the two
    # outputs and a column of q, k, v and the feed-forward input in three layers, and a column of the pooler.
    layer = model.bert.encoder.layer
    parts = [
        *(table.weight for table in model.bert.embeddings.modules() if isinstance(table, nn.Embedding)),
        *(m.weight[None] for m in model.modules() if isinstance(m, nn.LayerNorm)),
        *(m.bias[None] for m in model.modules() if isinstance(m, nn.LayerNorm)),
        *(getattr(part.attention.self, name).weight for part in layer for name in ("query", "key", "value")),
        *(part.intermediate.dense.weight for part in layer),
        *(linear.weight.T for part in layer for linear in (part.attention.output.dense, part.output.dense)),
        *(linear.bias[None] for part in layer for linear in (part.attention.output.dense, part.output.dense)),
        model.bert.pooler.dense.weight,
    ]
    expected = torch.cat(parts).double().square().sum(0).sqrt()
    torch.testing.assert_close(norms, expected.detach())
    kept = prune_hidden(model, 8, tiny_batch())
    assert norms[kept].min() > sorted(norms.tolist())[23]


def test_effects_are_shares_of_what_varies():
    model = tiny_model("bert", layers=1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight[GONE] = 0  # what is constant carries nothing, however large
                module.bias[GONE] = 50
    effects = channel_effects(model, [tiny_batch()])
    torch.testing.assert_close(effects.sum(), torch.tensor(5.0).double())  # q, k, v, feed-forward, pooler
    assert effects[GONE].max() < 1e-9 < 1e-3 < effects[KEPT].min()
    assert prune_hidden(model, 24, tiny_batch(), effects) == KEPT


def test_effects_of_one_reader_by_hand():
    # Without the other readers' weights theirs are shares of nothing.
    model, batch = tiny_model("bert", layers=1), tiny_batch()
    query = model.bert.encoder.layer[0].attention.self.query
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and module.in_features == 32 and module is not query:
                if "attention.output" not in name and name != "classifier":
                    module.weight.zero_()
        x = model.bert.embeddings(batch["input_ids"]).double()[batch["attention_mask"].bool()]
        energy = x.var(0, correction=0) * query.weight.double().square().sum(0)
    torch.testing.assert_close(channel_effects(model, [batch]), energy / energy.sum(), rtol=1e-5, atol=0)


def test_effects_need_examples():
    with pytest.raises(InputError, match="hidden: there are no examples to measure channels with"):
        channel_effects(tiny_model("bert", layers=1), [])


@pytest.mark.parametrize(("kind", "family"), [(AutoModelForMaskedLM, "bert"), (AutoModelForCausalLM, "gpt2")])
def test_a_tied_head_stays_tied(kind, family):
    config = copy.deepcopy(tiny_model(family).config)
    config.tie_word_embeddings = True
    model = kind.from_config(config).eval()
    prune_hidden(model, 24, tiny_batch())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().weight.shape == (20, 24)
    other = kind.from_config(model.config)
    apply(other, describe(model))
    other.tie_weights()
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(other.eval()), logits(model))


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_after_other_passes_and_before_them(family, tmp_path):
    model = tiny_model(family)
    first, second = blocks(model)[:2]
    keep_heads(model, first.attentions[0], [1, 2])
    for name in (second.attentions[0].query.module, second.feed_forwards[0].output):
        model.set_submodule(name, split(model.get_submodule(name), 12))
    factorize_input_embedding(model, 12)
    prune_hidden(model, 24, tiny_batch())
    assert model.get_input_embeddings().embedding_dim == 24
    # 12 · (24 + 32) < 24 · 32 still saves; after the next cut 12 · (8 + 32) > 8 · 32 does not.
    assert isinstance(model.get_submodule(second.attentions[0].query.module), LowRankLinear)
    keep_neurons(model, blocks(model)[2].feed_forwards[0], range(8))
    prune_hidden(model, 8, tiny_batch())
    assert type(model.get_submodule(second.attentions[0].query.module)) is nn.Linear
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_modes_gradients_and_the_config_stay_as_they_were():
    model = tiny_model("gpt2").train()
    model.transformer.wte.requires_grad_(False)
    config = model.config
    prune_hidden(model, 24, tiny_batch())
    assert all(module.training for module in model.modules())
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["transformer.wte.weight"]
    assert all(module.config is config for module in model.modules() if hasattr(module, "config"))
    model(**tiny_batch(), labels=torch.tensor([0, 1, 0, 1])).loss.backward()


@pytest.mark.parametrize("keep", [0, -8, 20, 32, 40])
def test_impossible_widths_are_refused(keep):
    with pytest.raises(InputError, match=rf"cannot keep {keep} of 32 .*Give a multiple of 8 from 8 to 24"):
        prune_hidden(tiny_model("bert", layers=1), keep, tiny_batch())


@pytest.mark.parametrize("scores", [torch.ones(31), torch.full((32,), torch.nan)])
def test_impossible_scores_are_refused(scores):
    with pytest.raises(InputError, match="for 32 residual channels. Give one finite number for each"):
        prune_hidden(tiny_model("bert", layers=1), 24, tiny_batch(), scores)


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("deberta-v2", "cannot narrow Conv1d"),
        (
            "deberta-v3",
            "the narrower model does not run .*normalized_shape",
        ),  # its relative positions stay wide
        ("mobilebert", "what its layers read is not one residual stream"),
        ("xlnet", "is not laid out by residual channels"),
        ("qwen2_moe", "is not laid out by residual channels"),
    ],
)
def test_a_family_that_cannot_be_narrowed_is_refused_and_left_as_it_is(family, reason):
    model = tiny_model(family, layers=2)
    before = logits(model)
    with pytest.raises(InputError, match=reason):
        prune_hidden(model, 24, tiny_batch())
    assert torch.equal(logits(model), before)
    assert describe(model) == {}


def test_int8_layers_are_refused():
    model = tiny_model("bert", layers=1)
    model.bert.encoder.layer[0].attention.self.query = Int8Linear(32, 32, True)
    with pytest.raises(InputError, match=r"query: cannot change Int8Linear. Prune and factorize before"):
        prune_hidden(model, 24, tiny_batch())


def test_an_example_that_the_model_cannot_run_is_refused():
    with pytest.raises(InputError, match=r"bert: .* the dependency graph cannot be built"):
        prune_hidden(tiny_model("bert", layers=1), 24, {"input_ids": torch.tensor([[99]])})
