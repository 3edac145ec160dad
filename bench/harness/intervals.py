"""How often an interval of a speed-up covers the true one, on simulated times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compress.benchmark.statistics import paired_ratio
from compress.display import progress

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int], Floats]  # (rounds, runs) factors
TRUE = 2.0
ROUNDS = (5, 12, 30)
_RUNS = 10


def shared(rng: np.random.Generator, rounds: int, runs: int) -> Floats:
    """Noise of each run alone."""
    return np.exp(0.05 * rng.standard_normal((rounds, runs)))


def own_moments(rng: np.random.Generator, rounds: int, runs: int) -> Floats:
    """Every round has a moment of its own, which differs between the models that take their turns in it."""
    return np.exp(0.1 * rng.standard_normal((rounds, 1))) * shared(rng, rounds, runs)


def spikes(rng: np.random.Generator, rounds: int, runs: int) -> Floats:
    """One run in ten takes three times as long, as where another process cuts in."""
    return own_moments(rng, rounds, runs) * np.where(rng.random((rounds, runs)) < 0.1, 3.0, 1.0)


NOISES: dict[str, Noise] = {
    "runs alone": shared,
    "rounds differ for each model": own_moments,
    "and one run in ten takes three times as long": spikes,
}


def table(trials: int) -> list[str]:
    """Return Markdown lines: for each noise, the share of intervals that cover the truth, by number of rounds."""
    lines = ["| noise | " + " | ".join(f"{n} rounds" for n in ROUNDS) + " |", "|---|" + "---:|" * len(ROUNDS)]
    with progress("intervals", len(NOISES) * len(ROUNDS) * trials) as advance:
        for name, noise in NOISES.items():
            cells = []
            for rounds in ROUNDS:
                rng, covered = np.random.default_rng(rounds), 0
                for _ in range(trials):
                    moments = np.exp(0.3 * rng.standard_normal((rounds, 1)))  # hit all models alike
                    times = [moments * noise(rng, rounds, _RUNS) for _ in range(2)]
                    _, interval = paired_ratio(TRUE * times[0], times[1])
                    assert interval is not None
                    covered += interval[0] <= TRUE <= interval[1]
                    advance(1)
                cells.append(f"{100 * covered / trials:.1f}%")
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
