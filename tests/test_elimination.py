"""The optimal brain surgeon against brute force."""

import pytest
import torch

from compress.pruning.elimination import DAMPING, by_score, compensated, root, surgeon


def matrix(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(width, tokens=200):
    x = matrix(tokens, width, seed=1) @ matrix(width, width, seed=2)
    return x.T @ x / tokens


def damped(gram):
    return gram + DAMPING * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)


def best(weight, gram, sensitivity, kept):
    """The least tr(S (W - V) H (W - V)ᵀ) where V is zero outside `kept`, and V, by lstsq."""
    factor = torch.linalg.cholesky(damped(gram)).T
    columns = torch.linalg.lstsq(factor[:, kept], factor @ weight.T).solution.T
    full = torch.zeros_like(weight)
    full[:, kept] = columns
    missing = factor @ (weight - full).T @ root(sensitivity).T
    return missing.square().sum().item(), columns


def columns_of(units, width):
    return [unit * width + column for unit in units for column in range(width)]


@pytest.mark.parametrize("width", [1, 3])
def test_errors_are_those_of_the_best_weights_that_the_units_left_can_have(width):
    weight, gram, sensitivity = matrix(5, 6 * width), covariance(6 * width), covariance(5)
    found = surgeon(weight, gram, sensitivity, width)
    assert sorted(found.order) == list(range(6))
    for count in range(1, 6):
        kept = columns_of(found.kept(count), width)
        error, columns = best(weight, gram, sensitivity, kept)
        assert found.error(count) == pytest.approx(error, rel=1e-6)
        torch.testing.assert_close(compensated(weight, gram, torch.tensor(kept)), columns)
    everything = torch.trace(sensitivity @ weight @ damped(gram) @ weight.T).item()
    assert found.error(0) == pytest.approx(everything, rel=1e-6)


@pytest.mark.parametrize("width", [1, 3])
def test_the_first_to_go_is_the_one_that_costs_least(width):
    weight, gram, sensitivity = matrix(5, 6 * width), covariance(6 * width), covariance(5)
    errors = [
        best(weight, gram, sensitivity, columns_of([u for u in range(6) if u != gone], width))[0]
        for gone in range(6)
    ]
    assert surgeon(weight, gram, sensitivity, width).order[0] == errors.index(min(errors))


def test_wide_parts_lose_several_at_once_and_the_sum_is_still_exact():
    weight, gram, sensitivity = matrix(5, 200), covariance(200, 400), covariance(5)
    found = surgeon(weight, gram, sensitivity, 1)
    assert found.errors == sorted(found.errors)
    kept = found.kept(100)  # 100 = 50 steps of two
    assert found.error(100) == pytest.approx(best(weight, gram, sensitivity, kept)[0], rel=1e-6)


@pytest.mark.parametrize("width", [1, 2])
def test_a_unit_that_others_can_replace_goes_for_nothing(width):
    # Unit 2 is unit 0 again; unit 3 is the sum of units 0 and 1. Two of the four are enough.
    x = matrix(300, 2 * width)
    first, second = x[:, :width], x[:, width:]
    inputs = torch.cat([first, second, first, first + second], dim=1)
    found = surgeon(matrix(5, 4 * width), inputs.T @ inputs / 300, torch.eye(5, dtype=x.dtype), width)
    # Not quite nothing, as damping takes a part in a hundred of each input for noise of its own.
    assert found.error(2) < 0.05 * found.error(1)


def test_without_noise_what_can_be_replaced_is_replaced_exactly():
    x = matrix(300, 2)
    inputs = torch.cat([x, x.sum(1, keepdim=True)], dim=1)
    weight, gram = matrix(5, 3), inputs.T @ inputs / 300
    kept = torch.tensor([0, 1])
    lost = inputs @ weight.T - x @ compensated(weight, gram, kept).T
    assert lost.square().mean() < 1e-3 * (inputs @ weight.T).square().mean()


def test_outputs_count_by_their_sensitivity():
    # Output 0 reads unit 0 alone, output 1 unit 1 alone; only output 0 reaches the answer.
    weight, gram = torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    sensitivity = torch.diag(torch.tensor([4.0, 0.0], dtype=torch.float64))
    found = surgeon(weight, gram, sensitivity, 1)
    assert found.order == [1, 0]
    assert found.errors == pytest.approx([0, 0, 4 * (1 + DAMPING)])
    assert surgeon(weight, gram, sensitivity.flip(0, 1).flip(0), 1).order == [0, 1]


def test_errors_never_fall_and_a_singular_gram_matrix_is_no_special_case():
    x = matrix(3, 12)  # three tokens for twelve inputs
    for gram in (x.T @ x / 3, torch.zeros(12, 12, dtype=x.dtype)):
        for width in (1, 3):
            found = surgeon(matrix(5, 12), gram, covariance(5), width)
            assert torch.tensor(found.errors).isfinite().all()
            assert found.errors == sorted(found.errors)
            assert found.errors[0] == 0


def test_scores_add_up_from_the_least():
    found = by_score(torch.tensor([3.0, 1.0, 2.0]))
    assert found.order == [1, 2, 0]
    assert found.errors == [0, 1, 3, 6]
    assert found.kept(2) == [0, 2]
    assert found.error(1) == 3


def test_root_of_a_singular_matrix():
    x = matrix(2, 4)
    torch.testing.assert_close(root(x.T @ x).T @ root(x.T @ x), x.T @ x)
