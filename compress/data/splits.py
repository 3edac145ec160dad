"""Cut validation and test rows from what there is, by a fixed seed and with every class in proportion."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

SEED = 0
CUTS = {"test": (0.2, 5_000), "validation": (0.1, 1_000)}
"""Share of the rows, and most rows, of a split that has to be cut; in this order."""

FEWEST_ROWS = 4  # two classes to train on, one row to validate, one to test


def cut(strata: Sequence[Hashable], texts: Sequence[Hashable], count: int) -> tuple[list[int], list[int]]:
    """Draw rows at random, each class in proportion, and never the last row of a class.

    Rows whose text occurs more than once stay behind, so that no drawn text is also trained on; unless that
    would leave too few rows to draw from.

    Args:
        strata: one class for each row; the same value everywhere draws without strata.
        texts: the text, or texts, of each row.
        count: rows to draw. Proportions are by largest remainder, so the parts add up to `count` wherever
            the classes allow it.

    Returns:
        (drawn, kept): row indices, each in the original order.
    """
    occurrences = Counter(texts)
    single = [row for row, text in enumerate(texts) if occurrences[text] == 1]
    candidates = single if len(single) >= 2 * count else range(len(texts))
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row in candidates:
        groups[strata[row]].append(row)
    wanted = {stratum: count * len(rows) / len(candidates) for stratum, rows in groups.items()}
    most = {stratum: len(rows) - 1 for stratum, rows in groups.items()}
    quota = {stratum: min(int(wanted[stratum]), most[stratum]) for stratum in groups}
    by_remainder = sorted(groups, key=lambda stratum: int(wanted[stratum]) - wanted[stratum])
    growing = [stratum for stratum in by_remainder if quota[stratum] < most[stratum]]
    for stratum in growing[: count - sum(quota.values())]:
        quota[stratum] += 1
    generator = random.Random(SEED)
    drawn = {row for stratum, rows in groups.items() for row in generator.sample(rows, quota[stratum])}
    return sorted(drawn), [row for row in range(len(strata)) if row not in drawn]


def share(rows: int, fraction: float, most: int) -> int:
    """How many rows a split of this fraction gets: at least one, at most `most`."""
    return max(1, min(most, round(rows * fraction)))
