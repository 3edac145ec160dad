"""Throughput when several threads call a model at once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compress.benchmark.config import BenchConfig
from compress.benchmark.latency import Cell
from compress.benchmark.pool import Worker
from compress.benchmark.report import Load
from compress.benchmark.shapes import Shape
from compress.display import progress

_ROUNDS, _SECONDS = 5, 0.5


def measure_load(
    workers: Sequence[Worker], inputs: Mapping[Cell, Path], config: BenchConfig, seed: int
) -> list[Load]:
    """Let `config.callers` threads call each model, in rounds, one model at a time.

    Args:
        workers: the entries' processes, warmed up.
        inputs: input file of each worker and shape; one example of the first length is asked.
        config: threads and callers.
        seed: of the order.

    Returns:
        One row for each entry that can take the shape and each number of callers.
    """
    shape = Shape(1, config.sequence_lengths[0])
    able = [index for index in range(len(workers)) if (index, shape) in inputs]
    cells = [(index, callers) for index in able for callers in config.callers]
    rates: dict[tuple[int, int], list[float]] = {cell: [] for cell in cells}
    times: dict[tuple[int, int], list[int]] = {cell: [] for cell in cells}
    rng = random.Random(seed)
    with progress("load", _ROUNDS * len(cells)) as advance:
        for _ in range(_ROUNDS):
            rng.shuffle(cells)
            for index, callers in cells:
                request = {
                    "do": "load",
                    "inputs": str(inputs[index, shape]),
                    "callers": callers,
                    "seconds": _SECONDS,
                }
                answer = workers[index].ask(request)
                rates[index, callers].append(len(answer["nanoseconds"]) / answer["seconds"])
                times[index, callers] += answer["nanoseconds"]
                advance(1)
    rows = []
    for (index, callers), found in sorted(times.items()):
        target, runtime = workers[index].entry.target, workers[index].entry.runtime
        p50, p95 = (float(value) / 1e6 for value in np.percentile(found, [50, 95]))
        rows.append(
            Load(
                name=target.name,
                runtime=runtime,
                callers=callers,
                sequence_length=shape.sequence_length,
                throughput=float(np.median(rates[index, callers])),
                p50_ms=p50,
                p95_ms=p95,
            )
        )
    return rows
