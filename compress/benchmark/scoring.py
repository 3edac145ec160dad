"""Asks every model the test set, as it is and with noise in it, and scores the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.benchmark.accuracy import (
    Questions,
    check_tasks,
    collect_answers,
    readable,
    robustness,
    score,
    write_questions,
)
from compress.benchmark.config import BenchConfig
from compress.benchmark.noise import noisy
from compress.benchmark.pool import Worker
from compress.benchmark.quality import slice_columns
from compress.benchmark.report import Accuracy
from compress.benchmark.subjects import Subject
from compress.tasks import Task

if TYPE_CHECKING:
    import datasets

    from compress.benchmark.targets import Target
    from compress.tasks.kind import Answers

Scored = Mapping[int, tuple[Subject, Task]]  # by index among all subjects


def score_subjects(
    subjects: Sequence[Subject],
    workers: Sequence[Worker],
    test: datasets.Dataset,
    config: BenchConfig,
    seed: int,
    work: Path,
    notes: list[str],
) -> dict[int, Accuracy]:
    """Return the accuracy of each subject (by index) that has a trained head.

    Raises:
        InputError: the models answer different questions, or the test set is of another task.
    """
    headless = dict.fromkeys(subject.entry.target.name for subject in subjects if subject.task is None)
    notes += [f"{name} has no metric: the model has no trained head" for name in headless]
    scored = {i: (subject, subject.task) for i, subject in enumerate(subjects) if subject.task is not None}
    if not scored:
        return {}
    tasks = [task for _, task in scored.values()]
    entries = [subject.entry for subject, _ in scored.values()]
    check_tasks(entries, tasks, test)
    if 0 not in scored:
        notes.append(f"agreement and differences in accuracy are against {entries[0]}")
    questions, answers = _asked(scored, workers, test, config, work / "questions")
    # Class ids of the data are in the first task's order, which answers are brought into.
    targets = [each.encoded.targets for each in questions]
    slices = {name: test[column] for name, column in slice_columns(test).items()}
    found = score(entries, answers, tasks, targets, readable(test), seed, slices)
    for kind in config.noise:
        asked, changed = _asked(scored, workers, noisy(test, kind, seed), config, work / kind)
        truths = [each.encoded.targets for each in asked]
        found = robustness(found, kind, entries, changed, tasks, truths, seed)
    return dict(zip(scored, found, strict=True))


def _asked(
    scored: Scored, workers: Sequence[Worker], test: datasets.Dataset, config: BenchConfig, work: Path
) -> tuple[list[Questions], list[Answers]]:
    """Have every scored subject answer a test set, tokenized once for each model."""
    from transformers import AutoTokenizer

    made: dict[Target, Questions] = {}
    for subject, task in scored.values():
        target = subject.entry.target
        if target not in made:
            folder = work / str(len(made))
            folder.mkdir(parents=True)
            tokenizer = AutoTokenizer.from_pretrained(target.folder, local_files_only=True)
            made[target] = write_questions(test, tokenizer, task, config.accuracy_batch_size, folder)
    questions = [made[subject.entry.target] for subject, _ in scored.values()]
    return questions, collect_answers([workers[i] for i in scored], questions, config, work)
