"""From targets to what can run: everything that can be refused is refused here, before work begins."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.architectures import positions_of
from compress.benchmark import targets as files
from compress.benchmark.config import BenchConfig, Runtime
from compress.benchmark.shapes import TEXTS, Shape, shapes_of
from compress.benchmark.targets import Entry, Target
from compress.display import progress
from compress.errors import CompressError, InputError
from compress.hardware import usable_cores
from compress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_INSTALL = {
    ("torch", "cpu"): "pip install torch",
    ("torch", "cuda"): "pip install torch, in a build for CUDA",
    ("onnxruntime", "cpu"): "pip install onnxruntime",
    ("onnxruntime", "cuda"): "pip install onnxruntime-gpu",
    ("openvino", "cpu"): "pip install 'compress-transformers[openvino]'",
}


@dataclass(frozen=True)
class Subject:
    """An entry ready to run.

    Attributes:
        entry: model and runtime.
        path: what the worker loads: the folder, or the ONNX file.
        config: the model's config.
        task: None for a model without a trained head.
        shipped: the files this runtime needs.
    """

    entry: Entry
    path: Path
    config: PretrainedConfig
    task: Task | None
    shipped: list[Path]


def check(targets: Sequence[Target], config: BenchConfig) -> None:
    """Refuse targets, runtimes and devices that cannot be used here.

    Raises:
        InputError: with what to install or give instead.
    """
    _check_targets(targets)
    _check_runtimes(config)


def _check_targets(targets: Sequence[Target]) -> None:
    names = [target.name for target in targets]
    if not names:
        raise InputError(
            "there is no model to bench", place="bench", remedy="Give a model folder, or several."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"two models are called {twice[0]!r}", place="bench", remedy="Give each a name of its own."
        )
    for target in targets:
        if not (target.folder / "config.json").is_file():
            raise InputError(
                "this is not a model folder: it has no config.json",
                place=f"bench: {target.folder}",
                remedy="Give a folder that compress or transformers saved.",
            )


def _check_runtimes(config: BenchConfig) -> None:
    for runtime in config.runtimes:
        package = runtime.removesuffix("-bf16")
        if (package, config.device) not in _INSTALL:
            raise InputError(
                f"the runtime {runtime} is not benched on {config.device}",
                place="bench.runtimes",
                remedy="Leave it out, or use device cpu.",
            )
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"the runtime {package} is not installed",
                place="bench.runtimes",
                remedy=f"Run: {_INSTALL[package, config.device]}",
            )
    if config.device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            "cuda was asked for, but torch sees no GPU here",
            place="bench.device",
            remedy=f"Use device cpu, or, where there is a GPU, run: {_INSTALL['torch', 'cuda']}",
        )
    if "onnxruntime" in config.runtimes:
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise InputError(
                "this build of onnxruntime has no CUDAExecutionProvider",
                place="bench.runtimes",
                remedy=f"Run: {_INSTALL['onnxruntime', 'cuda']}",
            )


def load_notes(config: BenchConfig) -> list[str]:
    """Say what about the machine's state makes timings doubtful."""
    cores, notes = usable_cores(), []
    if config.threads > cores:
        notes.append(f"{config.threads} threads on {cores} cores: threads wait for each other")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load + config.threads > cores + 0.5:
        notes.append(f"the machine was busy when the bench began (load {load:.1f} on {cores} cores)")
    return notes


def prepare(targets: Sequence[Target], config: BenchConfig, work: Path, notes: list[str]) -> list[Subject]:
    """Find or make what each entry runs; leave out, with a note, what a folder has no files for."""
    from compress.artifact import read_config, read_manifest

    subjects = []
    for number, target in enumerate(targets):
        model, task = read_config(target.folder), read_manifest(target.folder).task
        for runtime in target.runtimes or config.runtimes:
            path = _runnable(target, runtime, task, work / f"onnx-{number}", notes)
            if path is not None:
                file = None if runtime == "torch" else path
                shipped = files.needed_files(target.folder, runtime, file)
                subjects.append(Subject(Entry(target, runtime), path, model, task, shipped))
    if not subjects:
        raise InputError("nothing is left to bench", place="bench", remedy=f"{'; '.join(notes)}.")
    return subjects


def _runnable(
    target: Target, runtime: Runtime, task: Task | None, work: Path, notes: list[str]
) -> Path | None:
    present = files.onnx_file(target.folder)
    if runtime == "torch":
        if files.weight_files(target.folder) or present is None:
            return target.folder
        notes.append(f"{target.name} (torch) was left out: the folder has an ONNX file, but no weights")
        return None
    if present is not None:
        return present
    from compress.artifact import load
    from compress.exporting.export import export_onnx

    try:
        with progress(f"export {target.name}", 1) as advance:
            made: Path = export_onnx(load(target.folder), work)
            advance(1)
    except CompressError as error:
        if task is not None:
            raise
        notes.append(f"{target.name} ({runtime}) was left out: it has no ONNX file and no export: {error}")
        return None
    notes.append(f"{target.name}: the folder has no ONNX file; {made.name} was made for this bench")
    return made


def possible(subject: Subject, config: BenchConfig, notes: list[str]) -> list[Shape]:
    """Return the shapes that the model has positions for; note those it has not."""
    longest = positions_of(subject.config)
    shapes = [shape for shape in shapes_of(config) if longest is None or shape.sequence_length <= longest]
    if subject.task is None and TEXTS in shapes:
        shapes.remove(TEXTS)
        notes.append(f"{subject.entry} was not timed on texts: the model has no task to read them for")
    too_long = sorted(set(config.sequence_lengths) - {shape.sequence_length for shape in shapes})
    if too_long:
        lengths = ", ".join(map(str, too_long))
        notes.append(f"{subject.entry} has no rows at length {lengths}: the model has {longest} positions")
    return shapes
