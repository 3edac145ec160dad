"""Timing variants of a model: each exported and run in turns, in the ONNX Runtime session of a bench."""

from __future__ import annotations

import copy
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import nn

from compress.architectures import positions_of
from compress.architectures.blocks import blocks
from compress.display import progress
from compress.errors import CompressError, InputError
from compress.exporting import export_onnx
from compress.exporting.examples import example
from compress.pruning.layers import keep_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.benchmark.engines import Inputs

_ROWS = 4096  # of token embeddings that a variant keeps: a table's length takes memory, no time
_ROUNDS, _LEAST_ROUNDS, _SECONDS = 100, 5, 20.0  # of one thread's processor time
_RUNS = 3  # in one turn

Facts = TypeVar("Facts")


def time_models(
    artifact: Artifact,
    makers: Sequence[Callable[[], PreTrainedModel]],
    facts_of: Callable[[PreTrainedModel], Facts],
    shape: tuple[int, int],
    threads: int,
    remedy: str,
) -> tuple[list[Facts], list[float]]:
    """Export and time models, of which one at a time is in memory.

    Args:
        artifact: what the models are variants of; it is not changed.
        makers: of each model.
        facts_of: what to remember of a model.
        shape: examples in one call and tokens in each, all of them full.
        threads: of ONNX Runtime.
        remedy: what to do where there is no export.

    Returns:
        What was asked of every model, and its milliseconds.

    Raises:
        InputError: the model cannot be exported, or has not so many positions.
    """
    batch_size, sequence_length = shape
    positions = positions_of(artifact.model.config)
    if positions is not None and sequence_length > positions:
        raise InputError(
            f"the model has {positions} positions, so {sequence_length} tokens cannot be timed",
            place="sequence length",
            remedy=f"Give at most {positions}.",
        )
    facts: list[Facts] = []
    files: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="compress-latency-") as work:
        with progress("export variants to time", len(makers)) as advance:
            for make in makers:
                model = make()
                files.append(_export(artifact.evolve(model=model), Path(work) / str(len(files)), remedy))
                facts.append(facts_of(model))
                advance(1)
        rows = [sequence_length] * batch_size
        tokens = example(model, artifact.tokenizer, rows, torch.Generator().manual_seed(0))
        times = time_files(files, {name: ids.numpy() for name, ids in tokens.items()}, threads)
    return facts, times


def timed_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a float32 copy on the CPU, its table of token embeddings cut where that changes no time."""
    whole: PreTrainedModel = copy.deepcopy(model).to("cpu").float()  # type: ignore[arg-type]
    _shorten_embedding(whole)
    return whole


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


def two_layers(model: PreTrainedModel) -> PreTrainedModel | None:
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


def _export(artifact: Artifact, folder: Path, remedy: str) -> Path:
    try:
        return export_onnx(artifact, folder)
    except CompressError as error:
        raise InputError(
            f"its layers cannot be timed, as it has no ONNX export: {error.cause}",
            place=error.place or artifact.model.config.model_type,
            remedy=remedy,
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
