"""Smoothing moves outliers and changes no answer; where that cannot be, nothing is folded."""

import pytest
import torch
from tiny_models import ZOO, logits, tiny_batch, tiny_model

from compress.errors import InputError
from compress.layers import LowRankLinear
from compress.quantization.smooth import folds, smooth


def batches_of(model):
    eos = model.config.eos_token_id if model.config.is_encoder_decoder else None
    return [tiny_batch(seed, eos) for seed in (0, 1)]


# Two layers each. Post-norm families have no norm that linear layers alone read, but for ELECTRA's and ALBERT's
# before the projection of the embeddings; plain GELU cannot be scaled, gates and OPT's ReLU can.
KINDS = {
    "bert": {"value": 2},
    "electra": {"value": 2, "norm": 1},
    "modernbert": {"value": 2, "neurons": 2, "norm": 3},  # its first attention has no norm
    "gpt2": {"value": 2, "norm": 4},
    "llama": {"value": 2, "neurons": 2, "norm": 4},
    "opt": {"value": 2, "neurons": 2, "norm": 4},
    # Six attentions and four feed-forward parts, the norm before each, and the encoder's last one.
    "t5": {"value": 6, "neurons": 4, "norm": 11},
}


@pytest.mark.parametrize("family", [*ZOO, "gemma", "falcon", "phi3", "qwen2_moe"])
@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_answers_stay_the_same(family, alpha):
    model = tiny_model(family, layers=2)
    batches = batches_of(model)
    before = logits(model, batches[1])
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    done = smooth(model, batches, alpha)
    assert torch.allclose(logits(model, batches[1]), before, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    if family in KINDS:
        assert dict(done) == KINDS[family]
    if family == "gemma":  # its norms multiply by 1 + weight
        assert done["norm"] == 4


def largest_of(model, fold, batches):
    """max|x| of each input of a fold's first reader, and max|w| of each of its columns over all readers."""
    seen = []
    reader = model.get_submodule(fold.readers[0])
    handle = reader.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for batch in batches:
        seen_before = len(seen)
        logits(model, batch)
        seen[seen_before:] = [x[batch["attention_mask"].bool()] for x in seen[seen_before:]]
    handle.remove()
    weights = [model.get_submodule(name).weight.abs().amax(0) for name in fold.readers]
    return torch.cat(seen).abs().amax(0), torch.stack(weights).amax(0)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_factors_are_the_papers(alpha):
    model = tiny_model("bert", layers=1)
    batches = batches_of(model)
    (fold,) = folds(model, batches[0])
    x, w = largest_of(model, fold, batches)
    smooth(model, batches, alpha)
    # x / s and w · s with s = x^α / w^(1-α): x^(1-α) w^(1-α) and x^α w^α; both √(x w) at 0.5, 1 and x w at 1.
    new_x, new_w = largest_of(model, fold, batches)
    assert torch.allclose(new_x, (x * w) ** (1 - alpha), rtol=1e-4)
    assert torch.allclose(new_w, (x * w) ** alpha, rtol=1e-4)


def test_query_heads_that_share_a_value_head_share_its_factors():
    model = tiny_model("llama", layers=1)  # four query heads, two of keys and values, eight wide
    fold = next(fold for fold in folds(model, tiny_batch()) if fold.kind == "value")
    assert len(fold.rows) == 16
    assert fold.columns.tolist() == [*range(8), *range(8), *range(8, 16), *range(8, 16)]


def test_low_rank_pairs_are_folded_at_their_ends():
    model = tiny_model("bert", layers=1)
    torch.manual_seed(1)
    attention = model.bert.encoder.layer[0].attention
    attention.self.value, attention.output.dense = (
        LowRankLinear(32, 32, 8, True),
        LowRankLinear(32, 32, 8, True),
    )
    before = logits(model)
    assert smooth(model, [tiny_batch()], 0.5) == {"value": 1}
    assert torch.allclose(logits(model), before, rtol=1e-4, atol=1e-5)


def test_tied_weights_are_left_alone_and_nothing_to_fold_is_refused():
    model = tiny_model("bert", layers=2)
    first, second = (layer.attention.output.dense for layer in model.bert.encoder.layer)
    first.weight = second.weight
    assert folds(model, tiny_batch()) == []
    with pytest.raises(InputError, match="there is nothing to smooth: .* Leave smooth out"):
        smooth(model, [tiny_batch()], 0.5)
