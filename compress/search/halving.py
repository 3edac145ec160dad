"""Successive halving: much is looked at cheaply, little is trained long. Pure functions of what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from compress.search.space import Structure

Rung = Literal["cut", "shape", "short", "long"]
RUNGS: tuple[Rung, ...] = ("cut", "shape", "short", "long")
SHORT, LONG = 4, 2  # how many get there


@dataclass(frozen=True)
class Job:
    """One piece of work: a structure brought to a rung.

    `cut` leaves a model of that depth, trained briefly, which all structures of the depth share; `shape` prunes and
    factorizes it without training; `short` and `long` train that on the reference's answers.
    """

    structure: Structure
    rung: Rung


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        score: main metric on the validation split.
        divergence: distance of the answers from the reference's there; see `compress.distillation.soft`.
        seconds: that it took.
        error: why there is none; empty where there is one.
    """

    score: float = 0.0
    divergence: float = 0.0
    seconds: float = 0.0
    error: str = ""


Results = Mapping[Job, Result]


def cut_of(structure: Structure, whole: Structure) -> Job:
    """Return the job that a structure begins with."""
    return Job(replace(whole, layers=structure.layers), "cut")


def wanted(shortlist: Sequence[Structure], whole: Structure, results: Results) -> list[Job]:
    """Return what is to be done next and can be begun, the most promising first; empty where all is done.

    All structures are looked at before any is trained briefly, and all of those before any is trained long. Those of
    the least divergence are trained briefly, those of these that ever scored best long (Jamieson &
    Talwalkar, AISTATS 2016).

    Args:
        shortlist: the structures, the most promising first.
        whole: the structure of the reference.
        results: of every finished job, failed ones included.
    """
    cuts = dict.fromkeys(cut_of(each, whole) for each in shortlist)
    open_cuts = [job for job in cuts if job not in results]
    shapes = [Job(each, "shape") for each in shortlist]
    open_shapes = [
        job
        for job in shapes
        if job not in results
        and (cut := results.get(cut_of(job.structure, whole))) is not None
        and not cut.error
    ]
    if open_cuts or open_shapes:
        return [*open_shapes, *open_cuts]
    nearest = sorted(_done(shapes, results), key=lambda job: results[job].divergence)[:SHORT]
    short = [Job(job.structure, "short") for job in nearest]
    if open_short := [job for job in short if job not in results]:
        return open_short
    best = sorted(_done(short, results), key=lambda job: -results[_best(job.structure, results)].score)[:LONG]
    return [job for job in (Job(each.structure, "long") for each in best) if job not in results]


def finalists(results: Results, shortlist: Sequence[Structure]) -> list[Job]:
    """Return the jobs whose results are worth measuring, the best first: of each structure its best rung.

    Training does not always help: a structure that lost little may answer best as it was made.
    """
    made = _done([Job(each, "shape") for each in shortlist], results)
    best = [_best(job.structure, results) for job in made]
    return sorted(best, key=lambda job: -results[job].score)[:LONG]


def _best(structure: Structure, results: Results) -> Job:
    """Return the job that a structure scored best in; of equals the one with less training."""
    done = _done([Job(structure, rung) for rung in RUNGS[1:]], results)
    return max(done, key=lambda job: results[job].score)


def _done(jobs: Sequence[Job], results: Results) -> list[Job]:
    return [job for job in jobs if job in results and not results[job].error]
