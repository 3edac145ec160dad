"""Timing a model's layers at a few sizes, and the costs of parts that explain the times.

A handful of variants of the model (two of its layers, at a small grid of head counts and feed-forward widths, and
the whole model) are exported and timed in turns, each in a worker process of the bench. The time of a
variant is taken for a sum of what its parts cost. That a layer costs the same wherever it stands, whatever
the others have, is what makes the table small; runtimes that run one operator after the other behave so.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.architectures import positions_of
from compress.architectures.blocks import Attention, FeedForward, blocks
from compress.display import progress
from compress.errors import CompressError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.benchmark.statistics import Floats

_HEADS = (0, 1 / 4, 1 / 2, 3 / 4, 1)  # shares of the largest layer's; one head at least
_NEURONS = (1 / 16, 1 / 4, 1 / 2, 3 / 4, 1)
_MULTIPLE = 8  # of neurons, as what is left after pruning has
_LAYERS = 2
_ROWS = 4096  # of token embeddings that a variant keeps: a table's length takes memory, no time
_ROUNDS, _SECONDS = 40, 20.0

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
    with tempfile.TemporaryDirectory(prefix="compress-latency-") as work:
        sizes, files = _export(artifact, levels, Path(work))
        milliseconds = time_files(artifact, files, batch_size, sequence_length, threads)
    return fit(sizes, milliseconds, levels)


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


def variants(model: PreTrainedModel, levels: Sizes) -> Iterator[PreTrainedModel]:
    """Yield the models to time: the whole one, then cut ones at each level, heads and neurons in turn.

    Where layers cannot be dropped, or share their weights, the cut ones have all layers.
    """
    whole = copy.deepcopy(model).to("cpu").float()  # type: ignore[arg-type]
    _shorten_embedding(whole)
    cut = _first_layers(whole)
    if cut is not None:
        yield whole
    full = Sizes((levels.attention[-1],), (levels.feed_forward[-1],))
    pairs = [(heads, *full.feed_forward) for heads in levels.attention]
    pairs += [(*full.attention, neurons) for neurons in levels.feed_forward[:-1]]
    for heads, neurons in pairs:
        variant = copy.deepcopy(whole if cut is None else cut)
        _shrink(variant, heads, neurons)
        yield variant


def _shorten_embedding(model: PreTrainedModel) -> None:
    """Cut a long table of token embeddings, which ten processes would each hold, where no special id is lost."""
    from torch import nn

    config = model.config
    special = [config.pad_token_id, config.eos_token_id, config.bos_token_id]
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:  # export refuses the model and says why
        return
    if type(table) is nn.Embedding and all(one is None or one < _ROWS for one in special):
        table.weight = nn.Parameter(table.weight.detach()[:_ROWS].clone())
        table.num_embeddings = len(table.weight)


def _first_layers(model: PreTrainedModel) -> PreTrainedModel | None:
    """Return the model with two layers alone; None where that leaves no fewer."""
    from compress.pruning.layers import keep_layers

    present = len(blocks(model))
    cut = copy.deepcopy(model)
    try:
        keep_layers(cut, range(_LAYERS))
    except InputError:  # the family cannot drop layers, or has so few
        return None
    return cut if len(blocks(cut)) < present else None


def _shrink(model: PreTrainedModel, heads: int, neurons: int) -> None:
    from compress.pruning.surgery import keep_heads, keep_neurons

    for layer in blocks(model):
        for attention in layer.attentions:
            if attention.units > heads and not attention.obstacle:
                keep_heads(model, attention, range(heads))
        for feed_forward in layer.feed_forwards:
            if feed_forward.units > neurons and not feed_forward.obstacle:
                keep_neurons(model, feed_forward, range(neurons))


def _export(artifact: Artifact, levels: Sizes, work: Path) -> tuple[list[Sizes], list[Path]]:
    from compress.exporting import export_onnx

    sizes: list[Sizes] = []
    files: list[Path] = []
    count = len(levels.attention) + len(levels.feed_forward)
    try:
        with progress("export variants to time", count) as advance:
            for model in variants(artifact.model, levels):
                files.append(export_onnx(artifact.evolve(model=model), work / str(len(files))))
                sizes.append(Sizes.of(model))
                advance(1)
    except CompressError as error:
        raise InputError(
            f"its layers cannot be timed, since it has no ONNX export: {error.cause}",
            place=error.place or artifact.model.config.model_type,
            remedy="Give the shares of heads and neurons to remove in place of a speedup.",
        ) from error
    return sizes, files


def time_files(
    artifact: Artifact, files: Sequence[Path], batch_size: int, sequence_length: int, threads: int
) -> list[float]:
    """Return each file's milliseconds, timed in turns as in a bench; a file's folder takes the logs."""
    from compress.benchmark.config import BenchConfig
    from compress.benchmark.latency import measure, shapes_of, write_inputs
    from compress.benchmark.pool import Worker
    from compress.benchmark.targets import Entry, Target

    config = BenchConfig(
        runtimes=("onnxruntime",),
        batch_sizes=(batch_size,),
        sequence_lengths=(sequence_length,),
        threads=threads,
        rounds=_ROUNDS,
        seconds=_SECONDS,
    )
    shapes, folder = shapes_of(config), files[0].parent
    rows = min(_ROWS, artifact.model.config.vocab_size)
    padding = {artifact.model.config.pad_token_id} - {None}
    inputs = write_inputs(shapes, rows, padding, 0, folder)
    with ExitStack() as stack:
        workers = []
        for number, file in enumerate(files):
            entry = Entry(Target(f"variant {number}", file.parent), "onnxruntime")
            worker = stack.enter_context(Worker(entry, file, config, folder / f"{number}.log"))
            worker.receive()
            workers.append(worker)
        times = measure(workers, [shapes] * len(files), inputs, config, seed=0)
    return typical([times[number, shapes[0]] for number in range(len(files))])


def typical(times: Sequence[Floats]) -> list[float]:
    """Return one time each for several (rounds, runs) of times taken in the same rounds."""
    return [float(np.median(one)) for one in times]


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


def _points(bounds: Sequence[int], base: float, steps: Floats) -> Points:
    costs = base + np.concatenate([[0.0], np.cumsum(steps)])
    return tuple((bound, float(cost)) for bound, cost in zip(bounds, costs, strict=True))
