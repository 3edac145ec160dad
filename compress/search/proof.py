"""The best structures in every form that can be shipped, measured; one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.artifact import read_manifest
from compress.benchmark import Report, Target
from compress.benchmark.kept import bench_once
from compress.benchmark.report import Difference, Row
from compress.benchmark.shapes import TEXTS
from compress.benchmark.tables import accuracy_of
from compress.display import say
from compress.errors import CompressError
from compress.hardware import cpu_flags
from compress.passes.base import Pass
from compress.recommendation.variants import Variant, sensible_variants
from compress.search.halving import Job
from compress.search.limits import Limits, Measured, shortfalls
from compress.search.setting import Setting
from compress.search.space import Structure
from compress.search.table import Table, bench_config, make
from compress.search.work import folder_of

_TEXTS, _SECONDS = 64, 60.0
_ALIKE = 0.1  # points of the validation score within which the faster one is taken


@dataclass(frozen=True)
class Candidate:
    """A structure in a form to ship, measured.

    Attributes:
        job: what it was made by.
        variant, runtime: its form.
        form: the passes that make it.
        folder: what would be shipped.
        score: main metric on the validation split, by which it is chosen.
        measured: speed, time, size and the points lost on the validation split.
        speedup: with its 95% interval.
        test: main metric on the test split.
        change: of the test metric against the reference.
    """

    job: Job
    variant: str
    form: tuple[Pass, ...]
    runtime: str
    folder: Path
    score: float
    measured: Measured
    speedup: tuple[float, float, float]
    test: float
    change: Difference | None

    @property
    def name(self) -> str:
        """Name in the bench."""
        return f"{self.job.structure.slug}/{self.variant}"

    def corrected(self, table: Table, whole: Structure) -> Table:
        """Return the table with its times such that this candidate is expected as it was measured."""
        form = next(f for f in table.forms if (f.variant, f.runtime) == (self.variant, self.runtime))
        expected = table.estimate(self.job.structure, whole, form)
        assert expected is not None
        return table.corrected(
            self.measured.speedup / expected.speedup, self.measured.latency_ms / expected.latency_ms
        )

    def dominates(self, other: Candidate) -> bool:
        """Say whether this one is no worse in score, speed and size, and better in one of them."""
        ours, theirs = ((each.score, each.speedup[0], -each.measured.size_mb) for each in (self, other))
        return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))


def measure(jobs: Sequence[Job], setting: Setting, threads: int, out: Path) -> tuple[list[Candidate], Report]:
    """Make every form of the jobs' results and bench all beside the reference, on the test split.

    Raises:
        CompressError: none of them could be exported.
    """
    targets = [Target("reference", setting.reference, ("torch",))]
    made: dict[str, tuple[Job, Variant, Path]] = {}
    variants, _ = sensible_variants(cpu_flags(), has_data=True)
    failed = []
    for job in jobs:
        for variant in variants:
            name = f"{job.structure.slug}/{variant.name}"
            say(f"form: {job.structure.of(setting.whole)}, {variant.name}")
            home = out / "forms" / job.structure.slug / job.rung
            try:
                folder = make(setting, variant, folder_of(job, setting, out), home)
            except CompressError as error:
                failed.append(f"{name}: {error}")
                say(f"{variant.name} is left out: {error}")
                continue
            targets.append(Target(name, folder, variant.runtimes))
            made[name] = (job, variant, folder)
    if not made:
        raise CompressError("; ".join(failed), place="search")
    config = bench_config(setting, targets, threads, _TEXTS, _SECONDS)
    report = bench_once(
        targets, config, setting.data.scored_test, setting.data.fingerprint, out / "bench", setting.seed
    )
    rows = [row for row in report.rows if row.name in made and row.sequence_length == TEXTS.sequence_length]
    return [_candidate(row, report, *made[row.name], setting) for row in rows], report


def _candidate(
    row: Row, report: Report, job: Job, variant: Variant, folder: Path, setting: Setting
) -> Candidate:
    assert row.speedup_vs_first is not None
    value, ends = row.speedup_vs_first.value, row.speedup_vs_first.ci95
    low, high = ends if ends is not None else (value, value)
    accuracy = accuracy_of(report, row)
    assert accuracy is not None
    score = read_manifest(folder).history[-1].after[setting.task.main_metric]
    return Candidate(
        job=job,
        variant=variant.name,
        form=variant.passes,
        runtime=row.runtime,
        folder=folder,
        score=score,
        measured=Measured(low, row.latency_ms.p50, row.size_mb, setting.drop(score)),
        speedup=(value, low, high),
        test=accuracy.metric.value,
        change=accuracy.difference_with_first,
    )


def choose(found: Sequence[Candidate], limits: Limits, setting: Setting) -> Candidate:
    """Return the candidate with the best validation score within all limits; else the one that misses them least.

    Of those alike in score the fastest is taken. The test split has no say: it is there for the proof.
    """
    within = [each for each in found if not shortfalls(each.measured, limits)]
    if not within:
        return min(found, key=lambda each: sum(shortfalls(each.measured, limits).values()))
    top = min(setting.drop(each.score) for each in within)
    alike = [each for each in within if setting.drop(each.score) <= top + _ALIKE]
    return max(alike, key=lambda each: each.speedup[0])


def pareto(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that none dominates, the fastest first."""
    front = [each for each in found if not any(other.dominates(each) for other in found)]
    return sorted(front, key=lambda each: -each.speedup[0])
