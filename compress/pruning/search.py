"""Which units stay: eliminations and a budget in, kept units out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from compress.calibration.allocation import allocate
from compress.errors import InputError
from compress.pruning.elimination import Elimination
from compress.pruning.parts import Part, levels

# What a part costs with so many units left, in any measure: weights, operations, milliseconds.
Cost = Callable[[Part, int], float]


def across_parts(
    parts: Sequence[Part], eliminations: Sequence[Elimination], cost: Cost, budget: float, place: str
) -> list[list[int]]:
    """Spread one budget over all parts so that the estimated errors' sum is least.

    Args:
        parts: what is cut.
        eliminations: one for each part.
        cost: of a part by its units.
        budget: what all of them may cost together.
        place: where to say an error is.

    Returns:
        For each part the units that stay, ascending.

    Raises:
        InputError: the budget is below what is left when every part is at its floor.
    """
    choices = [levels(part) for part in parts]
    chosen = allocate(
        [[cost(part, count) for count in counts] for part, counts in zip(parts, choices, strict=True)],
        [[e.error(count) for count in counts] for e, counts in zip(eliminations, choices, strict=True)],
        budget,
        place,
    )
    return [
        elimination.kept(counts[level])
        for elimination, counts, level in zip(eliminations, choices, chosen, strict=True)
    ]


def within_parts(
    parts: Sequence[Part],
    eliminations: Sequence[Elimination],
    cost: Cost,
    whole: Mapping[str, float],
    left: float,
    place: str,
) -> list[list[int]]:
    """Leave the same share of the cost of every part, or as near to it as its levels allow.

    Args:
        parts: what is cut.
        eliminations: one for each part.
        cost: of a part by its units.
        whole: by a part's output, what the part cost at the start.
        left: share of that which stays.
        place: where to say an error is.

    Raises:
        InputError: the share leaves a part less than its floor.
    """
    kept = []
    for part, elimination in zip(parts, eliminations, strict=True):
        counts, aim = levels(part), left * whole[part.output]
        if 2 * aim < cost(part, counts[0]):
            raise InputError(
                f"taking {1 - left:.0%} leaves less than {counts[0]} of {part.units} units",
                place=f"{place}: {part.output}",
                remedy=f"At most {1 - cost(part, counts[0]) / whole[part.output]:.0%} can go here.",
            )
        kept.append(elimination.kept(min(counts, key=lambda count: abs(cost(part, count) - aim))))
    return kept
