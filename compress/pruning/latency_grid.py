"""Timing a model's layers at a few sizes, and the costs of parts that explain the times.

A handful of variants of the model (its two widest layers at a small grid of head counts and feed-forward widths;
all layers, whole and halved) are exported and timed in turns, in the ONNX Runtime session of a bench. The
time of a variant is taken for a sum of what its parts cost. That a layer costs the same wherever it stands,
whatever the others have, is what makes the table small; runtimes that run one operator after the other behave
so but for the caches, which two layers find emptier than all: hence the halved one.
"""

from __future__ import annotations

import copy
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from compress.architectures import positions_of
from compress.architectures.blocks import Attention, FeedForward, blocks
from compress.display import progress
from compress.errors import CompressError, InputError
from compress.exporting import export_onnx
from compress.exporting.examples import example
from compress.pruning.layers import keep_layers
from compress.pruning.surgery import keep_heads, keep_neurons

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.benchmark.engines import Inputs

_HEADS = (0, 1 / 2, 1)  # shares of the largest layer's; one head at least
_NEURONS = (1 / 16, 1 / 2, 1)
_MULTIPLE = 8  # of neurons, as what is left after pruning has
_ROWS = 4096  # of token embeddings that a variant keeps: a table's length takes memory, no time
_ROUNDS, _LEAST_ROUNDS, _SECONDS = 100, 5, 20.0  # of one thread's processor time
_RUNS = 3  # in one turn

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Sizes:
    """Units of every attention and of every feed-forward part of a model."""

    attention: tuple[int, ...]
    feed_forward: tuple[int, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Sizes:
        """Read a model's sizes."""
        layers = blocks(model)
        return cls(
            tuple(part.units for layer in layers for part in layer.attentions),
            tuple(part.units for layer in layers for part in layer.feed_forwards),
        )


def measure(
    artifact: Artifact, batch_size: int, sequence_length: int, threads: int
) -> tuple[Points, Points, float]:
    """Return the points of a `LatencyTable`; see `measure_latency` for arguments and errors."""
    positions = positions_of(artifact.model.config)
    if positions is not None and sequence_length > positions:
        raise InputError(
            f"the model has {positions} positions, so {sequence_length} tokens cannot be timed",
            place="sequence length",
            remedy=f"Give at most {positions}.",
        )
    levels = grid(artifact.model)
    sizes: list[Sizes] = []
    files: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="compress-latency-") as work:
        makers = variants(artifact.model, levels)
        with progress("export variants to time", len(makers)) as advance:
            for make in makers:
                model = make()
                files.append(_export(artifact.evolve(model=model), Path(work) / str(len(files))))
                sizes.append(Sizes.of(model))
                advance(1)
        rows = [sequence_length] * batch_size
        tokens = example(model, artifact.tokenizer, rows, torch.Generator().manual_seed(0))
        times = time_files(files, {name: ids.numpy() for name, ids in tokens.items()}, threads)
    return fit(sizes, times, levels)


def grid(model: PreTrainedModel) -> Sizes:
    """Return which head counts and feed-forward widths are timed, each ascending up to the largest present."""
    layers = blocks(model)
    heads = [part for layer in layers for part in layer.attentions]
    neurons = [part for layer in layers for part in layer.feed_forwards]
    return Sizes(_levels(heads, _HEADS, 1), _levels(neurons, _NEURONS, _MULTIPLE))


def _levels(
    parts: Sequence[Attention] | Sequence[FeedForward], shares: Sequence[float], multiple: int
) -> tuple[int, ...]:
    largest = max((part.units for part in parts), default=0)
    if all(part.obstacle for part in parts):
        return (largest,)
    rounded = {max(1, round(share * largest / multiple)) * multiple for share in shares}
    return tuple(sorted({level for level in rounded if level < largest} | {largest}))


def variants(model: PreTrainedModel, levels: Sizes) -> list[Callable[[], PreTrainedModel]]:
    """Return makers of the models to time: whole ones, then cut ones at each level, heads before neurons.

    Where layers cannot be dropped, or share their weights, the cut ones have all layers.
    """
    whole = copy.deepcopy(model).to("cpu").float()  # type: ignore[arg-type]
    _shorten_embedding(whole)
    cut = _two_layers(whole)
    all_heads, all_neurons = levels.attention[-1], levels.feed_forward[-1]
    middle = (
        levels.attention[len(levels.attention) // 2],
        levels.feed_forward[len(levels.feed_forward) // 2],
    )
    deep = [] if cut is None else [(all_heads, all_neurons)]
    deep += [middle] if middle != (all_heads, all_neurons) else []
    sizes = [(heads, all_neurons) for heads in levels.attention]
    sizes += [(all_heads, neurons) for neurons in levels.feed_forward[:-1]]
    made = [partial(_shrunk, whole, *size) for size in deep]
    return [*made, *(partial(_shrunk, whole if cut is None else cut, *size) for size in sizes)]


def _shorten_embedding(model: PreTrainedModel) -> None:
    """Cut a long table of token embeddings, of which ten are in memory at once, where no special id is lost."""
    config = model.config
    special = [config.pad_token_id, config.eos_token_id, config.bos_token_id]
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:  # export refuses the model and says why
        return
    if type(table) is nn.Embedding and all(one is None or one < _ROWS for one in special):
        table.weight = nn.Parameter(table.weight.detach()[:_ROWS].clone())
        table.num_embeddings = len(table.weight)


def _two_layers(model: PreTrainedModel) -> PreTrainedModel | None:
    """Return the model with its two widest layers alone; None where that leaves no fewer."""
    layers = blocks(model)
    width = [
        sum(part.units * part.unit_width for part in layer.attentions)
        + sum(part.units for part in layer.feed_forwards)
        for layer in layers
    ]
    widest = sorted(range(len(layers)), key=lambda index: -width[index])[:2]
    cut = copy.deepcopy(model)
    try:
        keep_layers(cut, sorted(widest))
    except InputError:  # the family cannot drop layers, or has so few
        return None
    return cut if len(blocks(cut)) < len(layers) else None


def _shrunk(model: PreTrainedModel, heads: int, neurons: int) -> PreTrainedModel:
    """Return a copy with no more than so many units in any part that can lose some."""
    model = copy.deepcopy(model)
    for layer in blocks(model):
        for attention in layer.attentions:
            if attention.units > heads and not attention.obstacle:
                keep_heads(model, attention, range(heads))
        for feed_forward in layer.feed_forwards:
            if feed_forward.units > neurons and not feed_forward.obstacle:
                keep_neurons(model, feed_forward, range(neurons))
    return model


def _export(artifact: Artifact, folder: Path) -> Path:
    try:
        return export_onnx(artifact, folder)
    except CompressError as error:
        raise InputError(
            f"its layers cannot be timed, as it has no ONNX export: {error.cause}",
            place=error.place or artifact.model.config.model_type,
            remedy="Give the shares of heads and neurons to remove in place of a speedup.",
        ) from error


def time_files(files: Sequence[Path], inputs: Inputs, threads: int) -> list[float]:
    """Return each file's milliseconds, timed in turns in the session that a bench opens.

    One thread's time is its processor time, which other processes lengthen far less than the clock's. A file's
    is the median over its turns of the fastest run.
    """
    from compress.benchmark.onnx_engine import OnnxEngine

    clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    order, engines = random.Random(0), [OnnxEngine(file, threads, "cpu") for file in files]
    times: list[list[int]] = [[] for _ in files]
    began, rounds = clock(), 0
    with progress("time variants", _ROUNDS) as advance:
        while rounds < _ROUNDS and (rounds < _LEAST_ROUNDS or clock() - began < _SECONDS * 1e9):
            for number in order.sample(range(len(engines)), len(engines)):
                turn = []
                for _ in range(_RUNS + 1):
                    start = clock()
                    engines[number].predict(inputs)
                    turn.append(clock() - start)
                times[number].append(min(turn[1:]))  # the first run finds the caches full of another model
            rounds += 1
            advance(1)
    return [float(np.median(fastest)) / 1e6 for fastest in times]


def fit(sizes: Sequence[Sizes], milliseconds: Sequence[float], levels: Sizes) -> tuple[Points, Points, float]:
    """Find the costs, none negative, that add up to the times with the least relative error.

    A part's cost is linear between levels, and the two lowest lie on a line whose value at 0 units is what an
    attention costs at least, and 0 for a feed-forward part. Where all variants have as many layers, the
    least cost cannot be told from the rest and is counted there.

    Args:
        sizes: of each variant.
        milliseconds: of each variant.
        levels: the grid.

    Returns:
        Points of attention and of feed-forward, ascending, and the rest.
    """
    from scipy.optimize import nnls

    heads, neurons = _bounds(levels.attention), _bounds(levels.feed_forward)
    rows = [
        [
            1.0,
            float(len(size.attention)),
            *_filled(size.attention, heads),
            *_filled(size.feed_forward, neurons),
        ]
        for size in sizes
    ]
    matrix = np.asarray(rows)
    if len({len(size.attention) for size in sizes}) == 1:
        matrix[:, 1] = 0
    times = np.asarray(milliseconds)
    solution, _ = nnls(matrix / times[:, None], np.ones(len(times)))
    rest, base, steps = solution[0], solution[1], solution[2:]
    return (
        _points(heads, base, steps[: len(heads) - 1]),
        _points(neurons, 0.0, steps[len(heads) - 1 :]),
        float(rest),
    )


def _bounds(levels: Sequence[int]) -> list[int]:
    return [0, *levels[1:]] if len(levels) > 1 else list(levels)


def _filled(units: Sequence[int], bounds: Sequence[int]) -> list[float]:
    """Return for each stretch between bounds how much of it the parts fill, in parts."""
    spread = np.asarray(units, dtype=float)
    return [float(np.clip((spread - low) / (high - low), 0, 1).sum()) for low, high in pairwise(bounds)]


def _points(bounds: Sequence[int], base: float, steps: NDArray[np.float64]) -> Points:
    costs = base + np.concatenate([[0.0], np.cumsum(steps)])
    return tuple((bound, float(cost)) for bound, cost in zip(bounds, costs, strict=True))
