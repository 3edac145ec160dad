"""Interleaved rounds: every model takes its turn again and again, so that a noisy machine hits all alike."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.benchmark.config import BenchConfig
from compress.benchmark.energy import Counters
from compress.benchmark.pool import Worker
from compress.benchmark.shapes import TEXTS, Shape
from compress.benchmark.statistics import MIN_ROUNDS, Floats
from compress.display import progress
from compress.tasks.inputs import batches

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from compress.tasks import Task

_WARM_SECONDS = 0.5
_MOST_RUNS = 40  # in one turn
_OVERTIME = 1.25  # how far turns of at least one run may exceed the time asked for before rounds are dropped
# After another process ran, caches are cold; for slow models that is lost in the measurement.
_DISCARD, _DISCARD_BELOW = 1, 0.05


Cell = tuple[int, Shape]  # index of the worker, shape


@dataclass(frozen=True)
class Plan:
    """How often each cell runs: `rounds` turns of `runs[cell]` timed runs."""

    rounds: int
    runs: Mapping[Cell, int]


@dataclass(frozen=True)
class Measurements:
    """What interleaved rounds gave.

    Attributes:
        times: (rounds, runs) milliseconds of each cell.
        first: seconds of each worker's very first run.
        millijoules: of a run of each cell, the median over rounds; empty where nothing counts them.
    """

    times: dict[Cell, Floats]
    first: dict[int, float]
    millijoules: dict[Cell, float]


def write_inputs(
    shapes: Iterable[Shape], vocabulary: int, padding: Iterable[int], seed: int, folder: Path
) -> dict[Shape, Path]:
    """Draw ids for every shape, alike for all models, and write them as worker inputs.

    Args:
        shapes: what to draw.
        vocabulary: the smallest vocabulary among the models; ids come from its upper part, above the
            special tokens that stand first (at most 1000).
        padding: ids of padding tokens: never drawn, since some families number positions around them.
        seed: of the draw.
        folder: where files go.
    """
    ids = np.setdiff1d(np.arange(min(1000, vocabulary // 2), vocabulary), list(padding))
    rng = np.random.default_rng(seed)
    files = {}
    for shape in shapes:
        if shape == TEXTS:
            continue
        drawn = rng.choice(ids, size=(shape.batch_size, shape.sequence_length))
        files[shape] = folder / f"{shape.batch_size}x{shape.sequence_length}.npz"
        arrays = {"input_ids.0": drawn, "attention_mask.0": np.ones_like(drawn)}
        np.savez(files[shape], **arrays)  # type: ignore[arg-type]
    return files


def write_texts(
    texts: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task, folder: Path
) -> Path:
    """Tokenize texts as a model reads them and write each as a batch of its own, as one worker input."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, (_, batch) in enumerate(batches(task.encode(texts, tokenizer).inputs, tokenizer, 1)):
        arrays |= {f"{name}.{number}": value.numpy() for name, value in batch.items()}
    file = folder / "texts.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


def plan_rounds(estimates: Mapping[Cell, float], config: BenchConfig) -> Plan:
    """Share the time out: equal time for each cell and round, at least one run, fewer rounds if need be.

    Args:
        estimates: seconds of one run of each cell.
        config: rounds and seconds asked for.
    """
    turn = config.seconds / (config.rounds * len(estimates))
    runs = {cell: max(1, min(_MOST_RUNS, int(turn / cost))) for cell, cost in estimates.items()}
    one_round = sum((runs[cell] + _discard(cost)) * cost for cell, cost in estimates.items())
    affordable = int(_OVERTIME * config.seconds / one_round)
    return Plan(min(config.rounds, max(affordable, MIN_ROUNDS)), runs)


def measure(
    workers: Sequence[Worker],
    shapes: Sequence[Sequence[Shape]],
    inputs: Mapping[Cell, Path],
    config: BenchConfig,
    seed: int,
) -> Measurements:
    """Warm every worker up, then time all of them in rounds, one at a time.

    Within a round shapes come in random order and, within a shape, so do workers: those compared with each
    other run close together.

    Args:
        workers: the entries' processes.
        shapes: for each worker, the shapes that its model can take.
        inputs: input file of each worker and shape.
        config: rounds and seconds.
        seed: of the order.

    Returns:
        What was measured.
    """
    cells = [(index, shape) for index, able in enumerate(shapes) for shape in able]
    if not cells:
        return Measurements({}, {}, {})
    estimates: dict[Cell, float] = {}
    first: dict[int, float] = {}
    with progress("warm up", len(cells)) as advance:
        for index, shape in cells:
            request = {"do": "warm", "inputs": str(inputs[index, shape]), "seconds": _WARM_SECONDS}
            warm = workers[index].ask(request)
            estimates[index, shape] = warm["seconds"]
            first.setdefault(index, warm["first"])
            advance(1)
    plan = plan_rounds(estimates, config)
    times: dict[Cell, list[list[int]]] = {cell: [] for cell in cells}
    counters = Counters.find() if config.device == "cpu" else None
    energy: dict[Cell, list[float]] = {cell: [] for cell in cells}
    rng, start = random.Random(seed), time.monotonic()
    with progress("latency", plan.rounds * len(cells)) as advance:
        for number in range(plan.rounds):
            late = time.monotonic() - start > _OVERTIME * config.seconds  # it got busy after the estimates
            if late and number >= MIN_ROUNDS:
                break
            for index, shape in _shuffled(cells, rng):
                request = {
                    "do": "time",
                    "inputs": str(inputs[index, shape]),
                    "runs": plan.runs[index, shape],
                    "discard": _discard(estimates[index, shape]),
                }
                drawn = counters.read() if counters else ()
                times[index, shape].append(workers[index].ask(request)["nanoseconds"])
                if counters:
                    runs = plan.runs[index, shape] + _discard(estimates[index, shape])
                    energy[index, shape].append(counters.drawn(drawn, counters.read()) / runs)
                advance(1)
    millijoules = {cell: float(np.median(turns)) for cell, turns in energy.items() if turns}
    return Measurements({cell: np.asarray(rows) / 1e6 for cell, rows in times.items()}, first, millijoules)


def _discard(seconds: float) -> int:
    return _DISCARD if seconds < _DISCARD_BELOW else 0


def _shuffled(cells: Sequence[Cell], rng: random.Random) -> list[Cell]:
    shapes = sorted({shape for _, shape in cells})
    rng.shuffle(shapes)
    ordered = []
    for shape in shapes:
        turns = [cell for cell in cells if cell[1] == shape]
        rng.shuffle(turns)
        ordered += turns
    return ordered
