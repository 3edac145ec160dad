"""Trains one student and answers the test set; results stay on disk, so that a run resumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.distillation.rows import RAW, ROWS, SETTINGS, Row, Setting
from compress import api
from compress.artifact import content_hash, load
from compress.benchmark.statistics import ratio, ratio_resamples, spearman, spearman_resamples
from compress.data import load_data
from compress.data.config import DataConfig
from compress.display import say
from compress.manifest import hash_json
from compress.passes.distill import Distill
from compress.passes.finetune import Finetune
from compress.pipeline import Step
from compress.tasks.evaluate import predict
from compress.tasks.kind import Counted


@dataclass(frozen=True)
class Cell:
    """How one trained model did on the test set.

    Attributes:
        rows: (test rows, 2) float64: what was right and out of how much, whose sums' ratio is the metric; or, where
            that is a correlation, answer and target.
    """

    rows: NDArray[np.float64]


def teacher_cell(setting: Setting, name: str, work: Path) -> tuple[Path, Cell]:
    """Return a teacher, fine-tuned where `work` has none yet, and its answers."""
    made = setting.teachers[name]
    folder = _folder(setting, name, work)
    options = Finetune(
        epochs=made.epochs,
        learning_rate=made.learning_rate,
        max_length=setting.max_length,
        dropout=0,
        batch_size=32,
    )
    if not (folder / "manifest.json").exists():
        say(f"teacher {name} on {setting.data}")
        folder.with_suffix(".npz").unlink(missing_ok=True)  # an earlier teacher's answers
        api.apply([Step(options, folder)], made.model, setting.data)
    return folder, _answered(folder, setting, folder.with_suffix(".npz"))


def cell(data: str, student: str, row: str, seed: int, work: Path) -> Cell:
    """Return the student's answers, trained where they are not on disk or anything that decides them changed."""
    setting, teacher = SETTINGS[data], SETTINGS[data].students[student].teacher
    for name in _teachers(setting, student, ROWS[row]):
        teacher_cell(setting, name, work)
    steps, file = _cell(data, student, row, seed, work)
    if not file.exists():
        say(f"{data}, {student} of {teacher}, {ROWS[row].title}, seed {seed}")
        api.apply(steps, _folder(setting, teacher, work), DataConfig(source=data), seed)
        return _answered(steps[-1].folder, setting, file)
    return _read(file)


def finished(data: str, student: str, row: str, seed: int, work: Path) -> bool:
    """Say whether the cell is on disk and nothing that decides it has changed since."""
    setting = SETTINGS[data]
    made = all(
        (_folder(setting, name, work) / "manifest.json").exists()
        for name in _teachers(setting, student, ROWS[row])
    )
    return made and _cell(data, student, row, seed, work)[1].exists()


def _cell(data: str, student: str, row: str, seed: int, work: Path) -> tuple[list[Step], Path]:
    """Return what a cell is trained with, and where its answers are kept.

    Rows that begin with the same stage on raw text share it, so its folder's name says what decides it alone.
    """
    setting = SETTINGS[data]
    folders = {name: _folder(setting, name, work) for name in _teachers(setting, student, ROWS[row])}
    passes = _passes(setting, ROWS[row], student, folders)
    written = [
        each.model_dump(mode="json", exclude={"teacher", "teachers"}, exclude_unset=True) for each in passes
    ]
    hashes = [content_hash(path) for path in folders.values()]

    def name(title: str, key: list[Any]) -> str:
        start = f"{data}-{student.replace(' ', '')}-{setting.students[student].teacher}"
        return f"{start}-{title}-{seed}-{hash_json([*key, seed])[:8]}"

    whole = name(row, [written, hashes])
    names = [whole] if len(passes) == 1 else [name("raw-text", [written[:1], hashes[:1]]), whole]
    steps = [Step(each, work / "students" / folder) for each, folder in zip(passes, names, strict=True)]
    return steps, work / "cells" / f"{whole}.npz"


def _teachers(setting: Setting, student: str, row: Row) -> list[str]:
    """Return the names of a cell's teachers, the student's own first."""
    first = setting.students[student].teacher
    joins = set(setting.teachers) if row.ensemble else {setting.strongest} if row.strongest else set()
    return [first, *(name for name in setting.teachers if name != first and name in joins)]


def _folder(setting: Setting, teacher: str, work: Path) -> Path:
    return work / "teachers" / f"{setting.data}-{teacher}"


def _passes(setting: Setting, row: Row, student: str, folders: dict[str, Path]) -> list[Distill]:
    """Return the distillations of a row: its own, after one on raw text where there is such."""
    made = setting.students[student]
    alike = {"learning_rate": 1e-4, "batch_size": 32, "dropout": 0, "kd_weight": 0.9}
    others = tuple(str(folder) for name, folder in folders.items() if name != made.teacher)
    own: dict[str, Any] = {
        **alike,
        "teachers": others if row.ensemble else (),
        **(setting.more if row.more else {}),
        **(setting.mixes if row.mixes else {}),
        "epochs": row.epochs,
        **row.options,
    }
    if not row.raw:
        return [Distill(student=made.start, **own)]
    match = [{"objective": "hidden", "layers": made.raw_layers}]
    text = setting.kindred if row.raw == "kindred" else {**RAW, **setting.raw}
    raw = {**alike, **text, "student": made.raw_start, "match": match}
    teacher = folders[setting.strongest if row.strongest else made.teacher]
    return [Distill(**raw), Distill(teacher=str(teacher), **own)]


def _answered(folder: Path, setting: Setting, file: Path) -> Cell:
    """Answer the test set and keep that; the model itself is no longer needed."""
    if not file.exists():
        artifact = load(folder)
        task = artifact.task
        test = load_data(DataConfig(source=setting.data)).aligned(task).test
        encoded = task.encode(test, artifact.tokenizer)
        answers = predict(artifact.model, encoded.inputs, artifact.tokenizer, task)
        if isinstance(task.rules, Counted):
            rows = task.rules.ratio(answers, encoded.targets)
        else:
            said, true = np.asarray(answers), np.asarray(encoded.targets, np.float64)
            right = said.reshape(-1) if task.kind == "regression" else said.argmax(-1) == true
            rows = np.stack([right, true if task.kind == "regression" else np.ones_like(true)], -1)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".tmp.npz")
        np.savez(partial, rows=rows.astype(np.float64))
        partial.replace(file)
    return _read(file)


def _read(file: Path) -> Cell:
    with np.load(file, allow_pickle=False) as stored:
        return Cell(stored["rows"])


def score(found: Cell, metric: str) -> float:
    """Return the accuracy in percent, or Spearman's correlation."""
    if metric == "accuracy":
        return 100 * float(ratio(found.rows))
    return float(spearman(found.rows[:, 0], found.rows[:, 1]))


def resamples(found: Cell, metric: str, count: int) -> NDArray[np.float64]:
    """Return the score on bootstrap samples of the test rows, the same rows for every model."""
    if metric == "accuracy":
        return 100 * ratio_resamples(found.rows, 0, count)
    return spearman_resamples(found.rows[:, 0], found.rows[:, 1], 0, count)
