"""Spreading one budget over the parts of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compress.errors import InputError

# Costs that are whole numbers, such as weights, are counted by their greatest common divisor where the budget is
# no more than this many of it, which is exact. Others are counted in this share of the budget and rounded up, so
# that it is never exceeded and at most one step a part stays unspent.
_STEPS = 8000


def allocate(
    costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float, place: str
) -> list[int]:
    """Choose one level for each part so that the errors' sum is least and the costs' sum within the budget.

    A multiple-choice knapsack, solved exactly over costs in at most 8000 steps (see `_STEPS`), in time linear in
    the number of levels. Errors are taken to add up.

    Args:
        costs: for each part its levels' costs (parameters, operations, milliseconds), at least 0.
        errors: for each part its levels' errors.
        budget: what all parts may cost together.
        place: where to say an error is.

    Returns:
        For each part the index of its level.

    Raises:
        InputError: not even the cheapest levels fit; the message names their sum.
    """
    least = sum(min(part) for part in costs)
    if least > budget * (1 + 1e-9):  # a share that is met exactly may miss by a rounding
        raise InputError(
            f"the budget of {budget:,.4g} cannot be met: the least that can be left costs {least:,.4g}",
            place=place,
            remedy=f"The nearest that can be had is {least / max(budget, 1e-30):.2f} times that budget.",
        )
    # The cheapest levels are paid in full first: rounding must not make a budget that can be met impossible.
    steps, total = _in_steps([[cost - min(part) for cost in part] for part in costs], budget - least)
    best = np.zeros(total + 1)
    chosen = []
    for part_steps, part_errors in zip(steps, errors, strict=True):
        better = np.full(total + 1, np.inf)
        level_of = np.zeros(total + 1, dtype=np.int64)
        for level, (step, error) in enumerate(zip(part_steps, part_errors, strict=True)):
            if step > total:
                continue
            candidate = np.full(total + 1, np.inf)
            candidate[step:] = best[: total + 1 - step] + error
            wins = candidate < better
            better[wins], level_of[wins] = candidate[wins], level
        best = better
        chosen.append(level_of)
    levels, left = [], total
    for part_steps, level_of in zip(reversed(steps), reversed(chosen), strict=True):
        level = int(level_of[left])
        levels.append(level)
        left -= part_steps[level]
    return levels[::-1]


def _in_steps(costs: Sequence[Sequence[float]], budget: float) -> tuple[list[list[int]], int]:
    """Return costs as whole numbers of steps, and how many steps the budget has."""
    if all(abs(cost - round(cost)) < 1e-6 for part in costs for cost in part):
        unit = math.gcd(*(round(cost) for part in costs for cost in part)) or 1
        total = math.floor(max(budget, 0) / unit + 1e-6)
        if total <= _STEPS:
            return [[round(cost) // unit for cost in part] for part in costs], total
    step = max(budget, 1e-30) / _STEPS
    return [[math.ceil(cost / step - 1e-9) for cost in part] for part in costs], _STEPS
