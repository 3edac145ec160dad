"""Spreading a budget: against every combination there is."""

import itertools
import math

import numpy as np
import pytest

from compress.calibration.allocation import allocate
from compress.errors import InputError


def problem(seed):
    """Four parts of three to five levels, dearer levels with smaller errors."""
    random = np.random.default_rng(seed)
    sizes = random.integers(3, 6, size=4)
    costs = [np.sort(random.uniform(0, 10, size)).tolist() for size in sizes]
    errors = [np.sort(random.uniform(0, 1, size))[::-1].tolist() for size in sizes]
    return costs, errors


def total(values, levels):
    return sum(part[level] for part, level in zip(values, levels, strict=True))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 1])
@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_all_combinations_is_found_and_the_budget_kept(seed, share):
    costs, errors = problem(seed)
    least, most = (total([[bound(part)] for part in costs], [0] * 4) for bound in (min, max))
    budget = least + share * (most - least)
    found = allocate(costs, errors, budget, "here")
    assert total(costs, found) <= budget * (1 + 1e-9)
    # Costs are rounded up to 1/8000 of what is free, four parts at most four such steps.
    tight = budget - 4 * (budget - least) / 8000
    combinations = list(itertools.product(*map(range, map(len, costs))))
    best = min(total(errors, levels) for levels in combinations if total(costs, levels) <= tight)
    assert total(errors, found) <= best + 1e-12


def test_a_part_whose_loss_costs_nothing_goes_first():
    assert allocate([[1, 2], [1, 2]], [[0, 0], [5, 0]], 3, "here") == [0, 1]


def test_costs_in_any_order_are_understood():
    assert allocate([[3, 1, 2]], [[0, 9, 4]], 2.5, "here") == [2]


def test_the_cheapest_levels_fit_a_budget_of_just_their_sum():
    assert allocate([[1, 2]] * 10, [[1, 0]] * 10, 100 * (1 - 0.9), "here") == [0] * 10  # 9.999999999999998


def test_whole_numbers_are_counted_exactly():
    # 56 + 56 + 8 is all of 120; in thousandths, rounded up, it would be more.
    costs = [list(range(8, 65, 8))] * 3
    errors = [[60.0 - cost for cost in costs[0]]] * 2 + [[50.0, *[0.0] * 7]]
    assert allocate(costs, errors, 144, "here") == [7, 7, 1]


def test_a_budget_that_cannot_be_met_names_the_nearest():
    with pytest.raises(InputError) as caught:
        allocate([[2, 4], [1, 8]], [[1, 0], [1, 0]], 1.5, "prune")
    assert caught.value.place == "prune"
    assert "the least that can be left costs 3" in caught.value.cause
    assert "2.00 times that budget" in caught.value.remedy
    assert math.isclose(3 / 1.5, 2)
