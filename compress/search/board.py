"""The study on disk: which jobs are done, which run, and what came of them. Any number of processes share it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from compress.search.halving import RUNGS, Job, Result, Results
from compress.search.space import Structure

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

_WAIT = 1.0  # seconds between two looks at what other processes do
_RESULT = "result"


class Board:
    """A study in `folder/study.db`.

    A job is a trial of Optuna, its value the validation score. Whoever runs one holds a lock on a file, which the
    system frees when the process ends in whatever way: a trial that runs without its lock was killed, and its job is
    given out again.

    Args:
        folder: where the study lies.
        key: of the setting; results of another one are not seen.
    """

    def __init__(self, folder: Path, key: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        self.folder, self.lock = folder, FileLock(folder / "locks" / "study")
        with self.lock:
            self.study = optuna.create_study(
                storage=f"sqlite:///{(folder / 'study.db').absolute()}",
                study_name=key,
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),  # every trial is given its parameters
            )

    def results(self) -> Results:
        """Return what came of every finished job."""
        return {
            _job(trial): Result(**trial.user_attrs[_RESULT])
            for trial in self.study.get_trials(deepcopy=False)
            if _RESULT in trial.user_attrs and trial.state.is_finished()
        }

    @contextmanager
    def claim(self, wanted: Callable[[Results], Sequence[Job]]) -> Iterator[Claim | None]:
        """Yield the first wanted job that nobody runs, for this process alone; None where none is wanted any more.

        Waits while others run all that is wanted: what they find may bring more.
        """
        while True:
            with self.lock:
                running = self._running()
                open_jobs = list(wanted(self.results()))
                free = [job for job in open_jobs if job not in running]
                claim = self._begin(free[0]) if free else None
            if claim is not None or not open_jobs:
                break
            time.sleep(_WAIT)
        try:
            yield claim
        finally:
            if claim is not None:
                claim.lock.release()

    def _begin(self, job: Job) -> Claim:
        from optuna.distributions import FloatDistribution, IntDistribution
        from optuna.trial import TrialState

        many = IntDistribution(0, 2**31)
        share = FloatDistribution(0, 1)
        # A process that was killed between these two calls left a trial waiting: that one is taken then.
        if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.enqueue_trial(_parameters(job))
        trial = self.study.ask(
            {"layers": many, "hidden": many, "sparsity": share, "keep": share, "rows": many, "rung": many}
        )
        lock = FileLock(self._lock_of(trial.number))
        lock.acquire(timeout=0)
        return Claim(self, trial, _job(trial), lock)

    def _running(self) -> set[Job]:
        """Return what other processes run, after the trials of killed ones are closed."""
        from optuna.trial import TrialState

        running = set()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            try:
                with FileLock(self._lock_of(trial.number), timeout=0):
                    self.study.tell(trial.number, state=TrialState.FAIL)
            except Timeout:
                running.add(_job(trial))
        return running

    def _lock_of(self, number: int) -> Path:
        return self.folder / "locks" / str(number)


class Claim:
    """A job that this process alone runs."""

    def __init__(self, board: Board, trial: Trial, job: Job, lock: FileLock) -> None:
        self.board, self.trial, self.job, self.lock = board, trial, job, lock

    def finish(self, result: Result) -> None:
        """Write down what came of it."""
        from optuna.trial import TrialState

        self.trial.set_user_attr(_RESULT, asdict(result))
        if result.error:
            self.board.study.tell(self.trial, state=TrialState.FAIL)
        else:
            self.board.study.tell(self.trial, result.score)


def _parameters(job: Job) -> dict[str, Any]:
    return asdict(job.structure) | {"rung": RUNGS.index(job.rung)}


def _job(trial: Trial | FrozenTrial) -> Job:
    values = dict(trial.params)
    return Job(Structure(**{k: v for k, v in values.items() if k != "rung"}), RUNGS[int(values["rung"])])
