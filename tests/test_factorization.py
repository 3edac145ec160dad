"""Low-rank splitting of matrices and of whole models."""

import pytest
import torch
from tiny_models import FAMILIES, assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn

from compress.architectures import matrices_of
from compress.factorization.gram import InputMoments, input_moments
from compress.factorization.linear import factorized
from compress.factorization.ranks import uniform_rank
from compress.factorization.svd import truncate_svd
from compress.layers.low_rank import saves
from compress.passes.factorize import input_groups

SHAPES = [(24, 40), (40, 24), (32, 32)]


def matrix(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(width, tokens=500):
    """Correlated inputs: a few directions carry most of the energy."""
    return matrix((tokens, width), 1) @ (matrix((width, width), 2) * torch.logspace(0, -2, width)[:, None])


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_error_is_the_sum_of_discarded_squared_singular_values(shape):
    weight = matrix(shape)
    first, second = truncate_svd(weight, 7)
    assert (first.shape, second.shape) == ((7, shape[1]), (shape[0], 7))
    discarded = torch.linalg.svdvals(weight)[7:].square().sum()
    torch.testing.assert_close((weight - second @ first).square().sum(), discarded)


@pytest.mark.parametrize("shape", SHAPES)
def test_whitened_error_is_the_sum_of_discarded_squared_singular_values_of_the_outputs(shape):
    weight, x = matrix(shape), inputs(shape[1])
    first, second = truncate_svd(weight, 7, x.T @ x)
    error = (x @ (weight - second @ first).T).square().sum()
    discarded = torch.linalg.svdvals(x @ weight.T)[7:].square().sum()  # those of W S, as S Sᵀ = XᵀX
    torch.testing.assert_close(error, discarded, rtol=1e-4, atol=0)
    plain_first, plain_second = truncate_svd(weight, 7)
    assert error < 0.9 * (x @ (weight - plain_second @ plain_first).T).square().sum()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tokens", [None, 500, 3])  # three inputs: a Gram matrix of rank three
def test_full_rank_equals_dense(shape, tokens):
    weight = matrix(shape)
    x = None if tokens is None else inputs(shape[1], tokens)
    first, second = truncate_svd(weight, min(shape), None if x is None else x.T @ x)
    torch.testing.assert_close(second @ first, weight)


def test_a_singular_gram_matrix_loses_nothing_on_the_inputs_it_shows():
    weight, x = matrix((24, 40)), inputs(40, tokens=3)
    first, second = truncate_svd(weight, 3, x.T @ x)
    torch.testing.assert_close(x @ first.T @ second.T, x @ weight.T, rtol=0, atol=1e-4)


def test_both_factors_have_the_same_norms_and_the_weights_dtype():
    first, second = truncate_svd(matrix((24, 40)).float(), 5, inputs(40).T @ inputs(40))
    torch.testing.assert_close(first.norm(dim=1), second.norm(dim=0))
    assert first.dtype == second.dtype == torch.float32


@pytest.mark.parametrize("rank", [0, 25])
def test_impossible_ranks_are_refused(rank):
    with pytest.raises(ValueError, match=rf"rank {rank} for a matrix of shape \(24, 40\)"):
        truncate_svd(matrix((24, 40)), rank)


def test_a_gram_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"gram of shape \(24, 24\) for a matrix of shape \(24, 40\)"):
        truncate_svd(matrix((24, 40)), 3, torch.eye(24, dtype=torch.float64))


def test_the_bias_takes_what_the_mean_input_loses():
    # With the mean taken out, the error is the discarded σ² of the centred outputs: the least possible.
    linear = nn.Linear(40, 24).double()
    x = inputs(40) + 5 * matrix((1, 40), 3)
    moments = InputMoments(40, torch.device("cpu"))
    moments.add(x[:200])
    moments.add(x[200:])
    pair = factorized(linear, 6, moments)
    error = (pair(x) - linear(x)).square().sum()
    centred = x - x.mean(0)
    discarded = torch.linalg.svdvals(centred @ linear.weight.T)[6:].square().sum()
    torch.testing.assert_close(error, discarded, rtol=1e-4, atol=0)


def test_without_a_bias_none_appears():
    moments = InputMoments(40, torch.device("cpu"))
    moments.add(inputs(40))
    assert factorized(nn.Linear(40, 24, bias=False), 6, moments).second.bias is None


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_are_those_of_the_tokens_that_count(family):
    model = tiny_model(family)
    seen = {}
    names = matrices_of(model)[1]
    for matrix_name in ("query", "attention_output", "ffn_out"):
        model.get_submodule(names[matrix_name]).register_forward_pre_hook(
            lambda _, x, key=matrix_name: seen.__setitem__(key, x[0])
        )
    batch = tiny_batch()
    moments = input_moments(model, input_groups(model), [batch])
    for matrix_name, x in seen.items():
        rows = x[batch["attention_mask"].bool()].double()
        record = moments[names[matrix_name]]
        assert record.tokens == 12 + 9 + 7 + 4
        torch.testing.assert_close(record.gram, rows.T @ rows / 32)
        torch.testing.assert_close(record.mean, rows.mean(0))
        torch.testing.assert_close(record.covariance, rows.T.cov(correction=0))
    assert moments[names["query"]] is moments[names["value"]]
    assert len(moments) == 18


@pytest.mark.parametrize(
    ("in_features", "out_features", "keep", "rank"),
    [
        (384, 384, 0.5, 96),  # 0.5 * 384² / 768 = 96
        (384, 1536, 0.5, 152),  # 153.6, rounded down to a multiple of 8
        (32, 32, 0.5, 8),  # below 16: not rounded
        (32, 64, 0.45, 9),  # 9.6
        (8, 8, 0.1, 1),  # 0.4, but one at least
    ],
)
def test_uniform_rank(in_features, out_features, keep, rank):
    assert uniform_rank(in_features, out_features, keep) == rank
    assert saves(rank, in_features, out_features)


def test_low_rank_pairs_save_below_the_break_even_rank_only():
    # 384 * 1536 / (384 + 1536) = 307.2
    assert saves(307, 384, 1536)
    assert not saves(308, 384, 1536)


@pytest.mark.parametrize("family", FAMILIES)
def test_factorized_models_reload_bit_for_bit(family, tmp_path):
    model = tiny_model(family)
    moments = input_moments(model, input_groups(model), [tiny_batch()])
    for layer, names in enumerate(matrices_of(model)):
        for name in names.values():
            linear = model.get_submodule(name)
            model.set_submodule(name, factorized(linear, 4 + layer, moments[name]))  # uneven on purpose
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_dense_is_what_the_pair_computes():
    model = tiny_model("bert")
    name = matrices_of(model)[0]["ffn_in"]
    model.set_submodule(name, factorized(model.get_submodule(name), 5))
    expected = logits(model)
    model.set_submodule(name, model.get_submodule(name).dense())
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
