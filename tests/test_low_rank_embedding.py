"""Token embeddings as a thin table and a projection."""

import pytest
import torch
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn

from compress.errors import InputError
from compress.factorization import embedding as module
from compress.factorization.embedding import factorize_input_embedding, factorized_embedding
from compress.layers import LowRankEmbedding

ROWS, WIDTH = 50, 24


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(seed=0):
    return nn.Embedding.from_pretrained(random(ROWS, WIDTH, seed=seed), freeze=False, padding_idx=1)


def metric(rank=WIDTH):
    return random(WIDTH, rank, seed=2) @ random(WIDTH, rank, seed=2).T


def weights():
    return random(ROWS, seed=1).exp()


def error(old, new, row_weights, output_metric):
    lost = old.weight - new.dense().weight
    return ((lost @ output_metric) * lost).sum(1) @ row_weights


@pytest.mark.parametrize("row_weights", [None, weights()])
@pytest.mark.parametrize(
    "output_metric", [None, metric(), metric(3)]
)  # a singular one shows three directions
def test_full_rank_equals_dense(row_weights, output_metric):
    old = table()
    new = factorized_embedding(old, WIDTH, row_weights, output_metric)
    torch.testing.assert_close(new.dense().weight, old.weight)
    ids = torch.tensor([[0, 1], [7, 49]])
    torch.testing.assert_close(new(ids), old(ids))


@pytest.mark.parametrize("row_weights", [None, weights()])
@pytest.mark.parametrize("output_metric", [None, metric()])
def test_weighted_error_is_the_sum_of_discarded_squared_singular_values(row_weights, output_metric):
    old = table()
    new = factorized_embedding(old, 7, row_weights, output_metric)
    w = torch.ones(ROWS, dtype=torch.float64) if row_weights is None else row_weights
    m = torch.eye(WIDTH, dtype=torch.float64) if output_metric is None else output_metric
    root = torch.linalg.cholesky(m)
    discarded = torch.linalg.svdvals(w.sqrt()[:, None] * old.weight @ root)[7:].square().sum()
    torch.testing.assert_close(error(old, new, w, m), discarded, rtol=1e-5, atol=0)
    if row_weights is not None or output_metric is not None:
        assert error(old, factorized_embedding(old, 7), w, m) > 1.1 * discarded


def test_rows_that_are_used_are_kept_and_the_others_pay():
    old, used = table(), torch.zeros(ROWS, dtype=torch.float64)
    used[:5] = 1  # five rows span five directions
    new = factorized_embedding(old, 5, used)
    torch.testing.assert_close(new.dense().weight[:5], old.weight[:5], rtol=0, atol=1e-4)
    assert (new.dense().weight[5:] - old.weight[5:]).square().mean() > 0.5


def test_rows_of_weight_zero_decide_where_no_other_row_does():
    old, used = table(), torch.zeros(ROWS, dtype=torch.float64)
    used[:5] = 1
    new = factorized_embedding(old, 8, used)
    # What is left of the others after the first five directions is cut by Eckart-Young, too.
    rest = old.weight - old.weight @ torch.linalg.pinv(old.weight[:5]) @ old.weight[:5]
    discarded = torch.linalg.svdvals(rest)[3:].square().sum()
    torch.testing.assert_close((old.weight - new.dense().weight).square().sum(), discarded, rtol=1e-3, atol=0)


def test_large_tables_are_read_in_parts(monkeypatch):
    whole = factorized_embedding(table(), 6, weights()).dense().weight
    monkeypatch.setattr(module, "_CHUNK", 16)
    torch.testing.assert_close(factorized_embedding(table(), 6, weights()).dense().weight, whole)


def test_both_factors_have_the_same_norms_and_the_tables_properties():
    old = table().float().requires_grad_(False).eval()
    new = factorized_embedding(old, 6, weights(), metric())
    torch.testing.assert_close(new.table.weight.norm(dim=0), new.second.weight.norm(dim=0))
    assert (new.num_embeddings, new.embedding_dim, new.rank, new.padding_idx) == (ROWS, WIDTH, 6, 1)
    assert new.table.weight.dtype == new.second.weight.dtype == torch.float32
    assert not new.training
    assert not any(parameter.requires_grad for parameter in new.parameters())


def test_a_padding_row_of_zeros_stays_zero():
    old = table()
    with torch.no_grad():
        old.weight[1] = 0
    assert not factorized_embedding(old, 6, weights(), metric()).dense().weight[1].any()


@pytest.mark.parametrize("rank", [0, 25])
def test_impossible_ranks_are_refused(rank):
    with pytest.raises(ValueError, match=rf"rank {rank} for a table of shape \(50, 24\)"):
        factorized_embedding(table(), rank)


@pytest.mark.parametrize(
    "bad", [torch.ones(49), torch.zeros(50), torch.full((50,), -1.0), torch.full((50,), torch.nan)]
)
def test_impossible_row_weights_are_refused(bad):
    with pytest.raises(ValueError, match="row weights have to be 50 finite numbers"):
        factorized_embedding(table(), 6, bad)


@pytest.mark.parametrize("bad", [torch.eye(23), torch.zeros(24, 24), torch.full((24, 24), torch.inf)])
def test_an_impossible_metric_is_refused(bad):
    with pytest.raises(ValueError, match="the metric has to be a finite positive matrix"):
        factorized_embedding(table(), 6, None, bad)


@pytest.mark.parametrize("family", ["bert", "electra", "llama"])
def test_the_embedding_of_a_model_is_replaced_and_reloads(family, tmp_path):
    model = tiny_model(family)
    before = logits(model)
    name = factorize_input_embedding(model, 12)
    assert model.get_submodule(name) is model.get_input_embeddings()
    assert isinstance(model.get_input_embeddings(), LowRankEmbedding)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_gradients_reach_both_factors():
    model = tiny_model("bert")
    factorize_input_embedding(model, 12)
    model(**tiny_batch(), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    pair = model.get_input_embeddings()
    assert pair.second.weight.grad.abs().sum() > 0
    assert pair.table.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("t5", r"the table is tied: .*shared.*encoder.embed_tokens.* read the same weight"),
        ("bart", "the input embedding is BartScaledWordEmbedding, not a plain table"),
    ],
)
def test_what_is_no_plain_table_of_its_own_is_refused(family, reason):
    model = tiny_model(family)
    with pytest.raises(InputError, match=reason):
        factorize_input_embedding(model, 12)


def test_a_language_models_head_is_named():
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_config(tiny_model("bert").config)
    with pytest.raises(InputError, match=r"word_embeddings, cls.predictions.decoder read the same weight"):
        factorize_input_embedding(model, 12)


def test_a_second_time_and_ranks_that_save_nothing_are_refused():
    model = tiny_model("bert")
    with pytest.raises(InputError, match=r"word_embeddings: rank 20 for a table of 20 × 32. .* from 1 to 19"):
        factorize_input_embedding(model, 20)
    factorize_input_embedding(model, 12)
    with pytest.raises(InputError, match="the token embeddings are factorized already"):
        factorize_input_embedding(model, 8)
