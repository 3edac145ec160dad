"""Run a whole recipe: its passes, then the benchmark of every step."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress import folders, pipeline
from compress.artifact import read_manifest
from compress.benchmark.targets import onnx_file
from compress.errors import InputError
from compress.pipeline import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress.benchmark import BenchConfig, Report
    from compress.benchmark.config import Runtime
    from compress.pipeline import Chain
    from compress.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """What a recipe left: the folder of every step, and the report where one was asked for."""

    folder: Path
    steps: tuple[Path, ...]
    report: Report | None


def run(recipe: Recipe | str | Path, out: Path | None = None) -> Run:
    """Run a recipe into `out` (`runs/<name>` by default): `01-finetune`, `02-distill`, …, `bench`.

    Steps and benchmarks that are done already, with the same inputs, are not done again.

    Args:
        recipe: the recipe, or the path of its YAML file.
        out: the run's folder.

    Raises:
        InputError: everything that is wrong with the recipe, the model or the data, before anything runs.
        CompressError: a step failed; the steps before it are saved and a new call goes on from there.
        BudgetError: a step could not meet its budget; everything is done and saved all the same.
    """
    from compress.recipe import Recipe

    if not isinstance(recipe, Recipe):
        recipe = Recipe.read(Path(recipe))
    out = out or Path("runs") / recipe.name
    steps = [Step(pass_, out / f"{number:02d}-{pass_.name}") for number, pass_ in enumerate(recipe.passes, 1)]
    folders.check_output(out, run=True)
    chain = pipeline.plan(recipe.model, steps, recipe.data, recipe.seed, recipe.device, recipe.yaml())
    if recipe.bench and recipe.bench.device != recipe.device:
        recipe = recipe.model_copy(
            update={"bench": recipe.bench.model_copy(update={"device": recipe.device})}
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / folders.RUN).write_text(json.dumps({"recipe": recipe.name}) + "\n", encoding="utf-8")
    done = pipeline.run(chain, out / ".work")
    report = _bench(recipe, chain, done, out / "bench") if recipe.bench else None
    pipeline.require_budgets(done)
    return Run(out, tuple(done), report)


def _bench(recipe: Recipe, chain: Chain, done: list[Path], out: Path) -> Report:
    """Measure every step, unless the same was measured on this machine before."""
    from compress.benchmark import Target
    from compress.benchmark.kept import bench_once

    assert recipe.bench is not None
    targets = [Target(path.name, path, _made_for(path, recipe.bench)) for path in done]
    if read_manifest(chain.source).task is not None:
        targets.insert(0, Target(Path(chain.model).name, chain.source))
    targets[0] = dataclasses.replace(targets[0], runtimes=None)  # the reference runs everywhere
    test, data = (chain.data.scored_test, chain.data.fingerprint) if chain.data else (None, None)
    return bench_once(targets, recipe.bench, test, data, out, recipe.seed)


def _made_for(step: Path, config: BenchConfig) -> tuple[Runtime, ...] | None:
    """Return the runtimes a step's result is made for: those that read ONNX once it is exported, torch before."""
    exported = onnx_file(step) is not None
    return tuple(runtime for runtime in config.runtimes if (runtime != "torch") == exported) or None


def bench_models(
    models: Sequence[str],
    config: BenchConfig,
    data: str | None,
    out: Path,
    seed: int = 0,
    slice_by: str | None = None,
) -> Report:
    """Measure models side by side, the first being the reference, and write the report into `out`.

    Args:
        models: folders or names.
        config: what is measured.
        data: what answers are scored on; None: what the first model was trained on, if that is known.
        out: folder of report.json, report.md and report.html.
        seed: seed of inputs, order and resampling.
        slice_by: column of the data that parts the test set.
    """
    from compress.benchmark import Target, run_bench
    from compress.data import load_data
    from compress.data.config import DataConfig

    folders.check_output(out)
    short = [Path(name).name for name in models]
    names = [name if short.count(name) == 1 else whole for name, whole in zip(short, models, strict=True)]
    found = [Target(*each) for each in zip(names, map(_bench_folder, models), strict=True)]
    first = read_manifest(found[0].folder)
    source = DataConfig(source=data) if data else first.data
    test = None
    if slice_by is not None and source is None:
        raise InputError(
            "there is no data whose parts could be scored",
            place="--slice-by",
            remedy="Give --data, or leave it out.",
        )
    if source is not None and first.task is not None:
        source = source.model_copy(update={"slice_by": slice_by or source.slice_by})
        test = load_data(source.posing(first.task)).aligned(first.task, f"data {source.source}").scored_test
    return run_bench(found, config, test, out, seed)


def _bench_folder(name: str) -> Path:
    """Return a model's folder; an ONNX file without torch's weights, as a bundle has it, is enough."""
    from compress.sources import resolve_model

    return Path(name) if onnx_file(Path(name)) else resolve_model(name).path
