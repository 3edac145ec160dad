"""Low-rank splitting of matrices and of whole models."""

import pytest
import torch
from tiny_models import FAMILIES, assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn

from compress.architectures import blocks
from compress.calibration.examples import example_losses
from compress.calibration.statistics import LinearStatistics, measure
from compress.errors import InputError
from compress.factorization.fisher import fisher_weights
from compress.factorization.ranks import Matrix, spread_ranks, uniform_rank
from compress.factorization.run import linears_of, split
from compress.factorization.svd import discarded, truncate_svd
from compress.layers.low_rank import saves
from compress.tasks import Task

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


def seen(x, sensitivity=None, outputs=24):
    """Statistics of inputs x (tokens, in), as `measure` gives them."""
    eye = torch.eye(outputs, dtype=x.dtype)
    return LinearStatistics(
        x.mean(0), x.T.cov(correction=0), eye if sensitivity is None else sensitivity, x.new_empty(0), 1
    )


def sensitivities(outputs):
    """A few directions of the output matter most."""
    spread = matrix((outputs, outputs), 4) * torch.logspace(0, -2, outputs)
    return spread @ spread.T


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 7, 20])
def test_discarded_is_the_error_of_the_split(shape, rank):
    weight, x, sensitivity = matrix(shape), inputs(shape[1]), sensitivities(shape[0])
    gram = x.T @ x
    errors = discarded(weight, gram, sensitivity)
    assert len(errors) == min(shape) + 1
    first, second = truncate_svd(weight, rank, gram, sensitivity)
    lost = weight - second @ first
    error = torch.trace(sensitivity @ lost @ gram @ lost.T)
    torch.testing.assert_close(error, errors[rank], rtol=1e-3, atol=1e-4 * float(errors[0]))
    torch.testing.assert_close(
        torch.trace(sensitivity @ weight @ gram @ weight.T), errors[0], rtol=1e-4, atol=0
    )
    assert errors[-1] == 0
    assert (errors.diff() <= 0).all()
    for other in (truncate_svd(weight, rank, gram), truncate_svd(weight, rank)):
        unweighed = weight - other[1] @ other[0]
        assert error < torch.trace(sensitivity @ unweighed @ gram @ unweighed.T)


@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_equals_dense_with_a_sensitivity_even_a_singular_one(shape):
    weight, x = matrix(shape), inputs(shape[1])
    for sensitivity in (sensitivities(shape[0]), torch.diag(torch.arange(shape[0]) < 3).double()):
        first, second = truncate_svd(weight, min(shape), x.T @ x, sensitivity)
        torch.testing.assert_close(second @ first, weight)


def test_a_layer_that_reaches_no_answer_is_split_without_infinities():
    first, second = truncate_svd(matrix((24, 40)), 3, torch.eye(40), torch.zeros(24, 24))
    assert (second @ first).isfinite().all()


def test_a_sensitivity_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"sensitivity of shape \(40, 40\) for a matrix of shape \(24, 40\)"):
        truncate_svd(matrix((24, 40)), 3, None, torch.eye(40))


def test_the_bias_takes_what_the_mean_input_loses():
    # With the mean taken out, the error is the discarded σ² of the centred outputs: the least possible.
    linear = nn.Linear(40, 24).double()
    x = inputs(40) + 5 * matrix((1, 40), 3)
    pair = split(linear, 6, seen(x))
    error = (pair(x) - linear(x)).square().sum()
    centred = x - x.mean(0)
    least = torch.linalg.svdvals(centred @ linear.weight.T)[6:].square().sum()
    torch.testing.assert_close(error, least, rtol=1e-4, atol=0)


def test_without_a_bias_none_appears_and_the_weights_meet_the_mean():
    linear = nn.Linear(40, 24, bias=False).double()
    x = inputs(40) + 5 * matrix((1, 40), 3)
    pair = split(linear, 6, seen(x))
    assert pair.second.bias is None
    error = (pair(x) - linear(x)).square().sum()
    least = torch.linalg.svdvals(x @ linear.weight.T)[6:].square().sum()
    torch.testing.assert_close(error, least, rtol=1e-4, atol=0)


def test_fisher_weights_are_each_examples_own_squared_gradients():
    model, batch, labels = tiny_model("bert").double(), tiny_batch(), torch.tensor([0, 1, 1, 0])
    name = linears_of(model)[4]
    loss = example_losses(Task(kind="classification"))
    found = fisher_weights(model, [name], [(batch, labels)], loss)[name]
    weight, total = model.get_submodule(name).weight, 0
    for row in range(4):
        one = {key: value[row : row + 1] for key, value in batch.items()}
        (gradient,) = torch.autograd.grad(loss(model(**one).logits, labels[row : row + 1]).sum(), [weight])
        total = total + gradient.square().sum(0) / 4
    torch.testing.assert_close(found, total)


@pytest.mark.parametrize("family", ["albert", "opt"])
def test_fisher_weights_add_up_calls_and_take_flattened_tokens(family):
    model, batch, labels = tiny_model(family).double(), tiny_batch(), torch.tensor([0, 1, 1, 0])
    names, loss = linears_of(model), example_losses(Task(kind="classification"))
    found = fisher_weights(model, names, [(batch, labels)], loss)
    name = blocks(model)[0].feed_forwards[0].inputs[0].module
    weight, total = model.get_submodule(name).weight, 0
    for row in range(4):
        answer = loss(model(**batch).logits, labels)[row]
        total = total + torch.autograd.grad(answer, [weight])[0].square().sum(0) / 4
    torch.testing.assert_close(found[name], total)


def test_ranks_go_where_they_are_worth_most():
    errors = {"needed": torch.arange(40.0).flip(0) * 100, "not": torch.arange(40.0).flip(0)}
    matrices = {name: Matrix(39, 39, error) for name, error in errors.items()}
    ranks = spread_ranks(matrices, 0.6, "here")
    assert ranks["needed"] is None or ranks["needed"] > ranks["not"]
    spent = sum(39 * 39 if rank is None else rank * 78 for rank in ranks.values())
    assert spent <= 0.6 * 2 * 39 * 39


def test_a_matrix_that_is_needed_whole_stays():
    flat, steep = torch.full((33,), 50.0), torch.zeros(33)
    flat[-1], steep[0] = 0, 50  # full rank or nothing; rank one is enough
    ranks = spread_ranks({"whole": Matrix(32, 32, flat), "thin": Matrix(32, 32, steep)}, 0.6, "here")
    assert ranks == {"whole": None, "thin": 1}


def test_a_pair_is_offered_smaller_ranks_only():
    errors = torch.arange(33.0).flip(0)
    assert spread_ranks({"pair": Matrix(32, 32, errors, present=4)}, 0.5, "here") == {"pair": None}
    assert spread_ranks({"pair": Matrix(32, 32, errors, present=12)}, 0.5, "here") == {"pair": 8}


def test_less_than_the_smallest_ranks_is_refused():
    with pytest.raises(
        InputError, match=r"the budget of 51.2 cannot be met: the least that can be left costs 64"
    ):
        spread_ranks({"one": Matrix(32, 32, torch.arange(33.0).flip(0))}, 0.05, "here")


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
    names = linears_of(model)
    assert len(names) == 18
    moments = measure(model, [tiny_batch()], names)
    for number, name in enumerate(names):  # uneven on purpose
        model.set_submodule(name, split(model.get_submodule(name), 4 + number // 6, moments[name]))
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_dense_is_what_the_pair_computes():
    model = tiny_model("bert")
    name = blocks(model)[0].feed_forwards[0].output
    model.set_submodule(name, split(model.get_submodule(name), 5))
    expected = logits(model)
    model.set_submodule(name, model.get_submodule(name).dense())
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
