"""The search: reference, table, shortlist, successive halving, proof."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from compress import folders, pipeline
from compress.artifact import read_config, read_manifest
from compress.benchmark import Report
from compress.data.config import DataConfig
from compress.display import say
from compress.errors import InputError
from compress.manifest import hash_json
from compress.passes.base import Pass
from compress.passes.finetune import Finetune
from compress.pipeline import Step
from compress.recipe import Recipe
from compress.search import halving, proof
from compress.search.board import Board
from compress.search.halving import Job, Results
from compress.search.limits import Limits, shortfalls
from compress.search.proof import Candidate
from compress.search.report import write
from compress.search.setting import Options, Setting, learning_rate_of, setting_of
from compress.search.shortlist import Shortlist, shortlisted
from compress.search.space import Structure
from compress.search.table import Table, measure_table
from compress.search.work import cutting, do, recipe_passes, training
from compress.sources import resolve_model

_RESERVE = 2.0  # times what the table took is left for the proof: six forms and a longer bench
Left = Callable[[], float]  # seconds until the time limit


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        winner: the best within the limits, or the nearest.
        folder: a copy of it, ready to ship.
        missed: the limits that it misses, on validation or on the test split; empty where it keeps all.
        pareto: the candidates that none beats in everything.
        candidates: all that was measured.
        results: of every job.
        shortlist: the structures that were looked at, and why no others.
        setting, table: what it went by.
        report: the bench of the candidates.
        unfinished: what there was no time for.
    """

    winner: Candidate
    folder: Path
    missed: tuple[str, ...]
    pareto: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    results: Results
    shortlist: Shortlist
    setting: Setting
    table: Table
    report: Report
    unfinished: tuple[str, ...]


def search(
    model: str,
    data: str | None,
    limits: Limits,
    out: Path,
    *,
    threads: int = 1,
    options: Options | None = None,
    time_limit: float | None = None,
    seed: int = 0,
) -> Found:
    """Find the model within limits that answers best, and prove it on the test split.

    A model without a trained head is fine-tuned first; what goes in, in torch, is the reference. Structures are
    estimated by a table of measured times and sizes; of those within the limits only the largest are made, as a smaller
    one answers no better. Successive halving trains few of them long. These are measured in every form that makes sense
    on this machine, chosen by the validation split and scored on the test split. Where the winner is slower than it was
    expected to be, estimates are corrected by that, and the search goes on with smaller ones.

    All of it lies in `out`: `winner/` and `recipe.yaml`, which makes it again; `search.md`, `search.json`; the bench.
    A call with the same `out` goes on where another was ended, and several may run at once.

    Args:
        model: a folder or a name.
        data: what is trained and scored on; None: what the model was trained on.
        limits: what the winner has to keep.
        out: the search's folder.
        threads: of what is timed.
        options: of the training.
        time_limit: seconds; what would take longer than is left is not begun.
        seed: of everything random.

    Raises:
        InputError: model, data or limits cannot be used.
        CompressError: nothing could be made or exported.
    """
    began = time.monotonic()
    folders.check_output(out, run=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / folders.RUN).write_text(json.dumps({"search": model}) + "\n", encoding="utf-8")
    # Another process of the search waits here, and finds all of it done.
    with FileLock(out / ".begin.lock"):
        reference, before, config = _reference(model, data, out, seed)
        setting = setting_of(reference, config, options or Options(), seed)
        table = measure_table(setting, threads, out / "table")
    left = None if time_limit is None else lambda: time_limit - (time.monotonic() - began)
    trainings = [cutting(setting, 1), *(training(setting, "", long) for long in (False, True))]
    written = [each.model_dump(mode="json", by_alias=True) for each in trainings]
    board = Board(out, hash_json([setting.origin, written]))
    found, tried = None, set[Structure]()
    while True:
        shortlist = shortlisted(table, setting.whole, limits)
        if found is not None and tried.issuperset(shortlist.structures):
            return found
        unfinished = _work(board, shortlist, setting, out, left, _RESERVE * table.seconds)
        results = board.results()
        jobs = halving.finalists(results, shortlist.structures)
        if found is not None and not jobs:
            return found
        with FileLock(out / ".finish.lock"):
            found = _prove(jobs, limits, setting, threads, out, results, shortlist, table, unfinished)
            (out / "recipe.yaml").write_text(_recipe(found.winner, model, before, setting).yaml(), "utf-8")
            write(found, limits, out)
        speed = dataclasses.replace(found.winner.measured, size_mb=0.0, drop=None)
        if not shortfalls(speed, limits):
            return found
        say(f"slower than expected: {', '.join(shortfalls(speed, limits))}")
        tried.update(shortlist.structures)
        table = found.winner.corrected(table, setting.whole)


def _prove(
    jobs: Sequence[Job],
    limits: Limits,
    setting: Setting,
    threads: int,
    out: Path,
    results: Results,
    shortlist: Shortlist,
    table: Table,
    unfinished: Sequence[str],
) -> Found:
    """Measure the finalists, choose one and copy it to `out/winner`."""
    if not jobs:
        errors = "; ".join(each.error for each in results.values() if each.error)
        raise InputError(
            errors or "there was no time for any structure",
            place="search",
            remedy="Give more --time-limit." if not errors else "",
        )
    candidates, report = proof.measure(jobs, setting, threads, out)
    winner = proof.choose(candidates, limits, setting)
    with folders.replacing(out / "winner") as new:
        shutil.copytree(winner.folder, new, dirs_exist_ok=True)
    return Found(
        winner=winner,
        folder=out / "winner",
        missed=(*shortfalls(winner.measured, limits), *_refuted(winner, limits, setting)),
        pareto=tuple(proof.pareto(candidates)),
        candidates=tuple(candidates),
        results=results,
        shortlist=shortlist,
        setting=setting,
        table=table,
        report=report,
        unfinished=tuple(unfinished),
    )


def _reference(model: str, data: str | None, out: Path, seed: int) -> tuple[Path, list[Pass], DataConfig]:
    """Return the fine-tuned model, the passes that made it of `model`, and the data."""
    source = resolve_model(model).path
    manifest = read_manifest(source)
    config = DataConfig(source=data) if data else manifest.data
    if config is None:
        raise InputError("it is not known what the model was trained on", place=model, remedy="Give --data.")
    if manifest.task is not None and not manifest.task.gives_way("classification"):
        return source, [], config
    say(f"{model} has no trained head for the task: it is fine-tuned first.")
    hidden = read_config(source).hidden_size
    tune = Finetune(epochs=2, learning_rate=learning_rate_of(hidden, anew=True), dropout=0)
    folder = out / "reference"
    chain = pipeline.plan(model, [Step(tune, folder)], config, seed)
    pipeline.run(chain, out / ".reference.work")
    return folder, [tune], config


def _work(
    board: Board, shortlist: Shortlist, setting: Setting, out: Path, left: Left | None, reserve: float
) -> list[str]:
    """Do jobs until none is wanted, or there is no time for any; return what was not begun."""
    skipped: dict[Job, str] = {}

    def wanted(results: Results) -> list[Job]:
        known = dict(results) | dict.fromkeys(skipped, halving.Result(error="no time"))
        jobs = halving.wanted(shortlist.structures, setting.whole, known)
        for job in jobs:
            needed = expected_seconds(job, results, setting)
            if left is not None and needed + reserve > left():
                skipped[job] = f"{job.rung} of {job.structure.of(setting.whole)}: about {needed:.0f} s"
        return [job for job in jobs if job not in skipped] or (wanted(results) if jobs else [])

    while True:
        with board.claim(wanted) as claim:
            if claim is None:
                return list(skipped.values())
            claim.finish(do(claim.job, setting, out))


def expected_seconds(job: Job, results: Results, setting: Setting) -> float:
    """Return what a job is expected to take, by the jobs before it; 0 where nothing is known."""
    done = {each: result.seconds for each, result in results.items() if not result.error}
    alike = [
        seconds * job.structure.layers / each.structure.layers
        for each, seconds in done.items()
        if each.rung == job.rung
    ]
    if alike:
        return max(alike)
    short = done.get(Job(job.structure, "short"))
    if job.rung == "long" and short is not None:
        return short * setting.options.epochs * setting.texts / len(setting.data.train)
    return done.get(halving.cut_of(job.structure, setting.whole), 0.0) if job.rung == "short" else 0.0


def _refuted(winner: Candidate, limits: Limits, setting: Setting) -> list[str]:
    """Say where the test split shows a greater loss than the limit."""
    if winner.change is None:
        return []
    lost = -setting.points(winner.change.value)
    if lost <= limits.max_drop + 1e-9:
        return []
    high, low = (-setting.points(each) for each in winner.change.ci95)
    return [f"{lost:.2f} points [{low:.2f}, {high:.2f}] lost of {limits.max_drop:g} on the test split"]


def _recipe(winner: Candidate, model: str, before: Sequence[Pass], setting: Setting) -> Recipe:
    """Return the recipe that makes the winner again, and benches its last step in its runtime."""
    passes = recipe_passes(winner.job, setting, before, winner.form, model)
    return Recipe.parse(
        {
            "name": "winner",
            "model": model,
            "data": setting.config.model_dump(mode="json"),
            "seed": setting.seed,
            "passes": [each.model_dump(mode="json", by_alias=True) for each in passes],
        },
        "recipe.yaml",
    )
