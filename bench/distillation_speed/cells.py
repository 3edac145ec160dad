"""Runs one method once, in a process of its own; what is done stays on disk, so that a run resumes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.distillation_speed.methods import OURS, Method
from bench.no_retraining.environments import python_of, run_method
from bench.no_retraining.methods import PEERS
from bench.no_retraining.models import ROOT, write_rows
from compress.artifact import content_hash, load, save
from compress.data import load_data
from compress.display import say
from compress.distillation.student import make_student
from compress.errors import CompressError

STUDENT = "teacher:3"
_OWN_CODE = ("data", "distillation", "passes", "tasks", "training")


@dataclass(frozen=True)
class Setting:
    """What is alike for every method.

    Attributes:
        teacher, student: model folders.
        rows: jsonl file of each split.
        options: `epochs`, `batch_size`, `learning_rate` and `pad_to`, see `bench/peers/distilling.py`.
        threads: that torch may use.
        labels: (test rows,) the right classes.
    """

    teacher: Path
    student: Path
    rows: dict[str, Path]
    options: dict[str, Any]
    threads: int
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """One run of one method.

    Attributes:
        method: a key of `METHODS`.
        round: in which it took its turn, from 0; also its seed.
        facts: what `bench/peers/distilling.py` wrote; `error` where the method failed.
        accuracy: on the test rows, percent; None where the method failed.
    """

    method: str
    round: int
    facts: dict[str, Any]
    accuracy: float | None


def prepare(
    teacher: Path, examples: int | None, options: dict[str, Any], threads: int, work: Path
) -> Setting:
    """Cut the student from the teacher and tokenize the rows of the data that the teacher was trained on.

    Args:
        teacher: a fine-tuned classifier of single texts, with a manifest.
        examples: how many training rows, the first ones; None: all.
        options: see `Setting`.
        threads: see `Setting`.
        work: where all of it goes.
    """
    artifact = load(teacher)
    if artifact.manifest.data is None or not artifact.task.labels or artifact.task.pair:
        raise CompressError(
            "not a classifier of single texts with its data",
            place=str(teacher),
            remedy="Give a folder that `finetune` wrote.",
        )
    data = load_data(artifact.manifest.data).aligned(artifact.task)
    folder = work / f"{content_hash(teacher)[:12]}-{examples or 'all'}"
    student = folder / "student"
    if not student.exists():
        save(make_student(STUDENT, artifact), student)
    count = min(examples or len(data.train), len(data.train))
    splits = {"train": data.train.select(range(count)), "validation": data.validation, "test": data.test}
    rows = {split: folder / f"{split}.jsonl" for split in splits}
    for split, file in rows.items():
        write_rows(file, splits[split], artifact)
    return Setting(teacher, student, rows, options, threads, np.asarray(data.test["label"]))


def measure(setting: Setting, name: str, method: Method, number: int, work: Path) -> Run:
    """Return a run, from disk where nothing that decides it has changed."""
    folder, key = work / "runs" / f"{name}-{number}", _key(setting, method, number)
    done = folder / "key"
    if not done.exists() or done.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        say(f"round {number + 1}: {name}")
        _run(setting, method, number, folder, work)
        done.write_text(key)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    if "error" in facts:
        return Run(name, number, facts, None)
    right = np.load(folder / "logits.npy").argmax(1) == setting.labels
    return Run(name, number, facts, 100 * float(right.mean()))


def _run(setting: Setting, method: Method, number: int, folder: Path, work: Path) -> None:
    """Run the method's script; where it fails, its last words are the result."""
    files = {split: str(file) for split, file in setting.rows.items()}
    models = {"teacher": str(setting.teacher), "student": str(setting.student)}
    job = models | files | setting.options | {"out": str(folder), "variant": method.variant, "seed": number}
    (folder / "job.json").write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    python = python_of(method.requirements, work) if method.requirements else Path(sys.executable)
    paths = [str(PEERS), *([] if method.requirements else [str(ROOT)])]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(setting.threads),
    }
    try:
        run_method(python, method.script, folder, own)
    finally:
        for left in ("cache", "work"):
            shutil.rmtree(folder / left, ignore_errors=True)


def _key(setting: Setting, method: Method, number: int) -> str:
    """Return a hash of everything that decides a run."""
    fixed = [content_hash(setting.teacher), content_hash(setting.student), method.variant, number]
    digest = hashlib.sha256(json.dumps([fixed, setting.options, setting.threads]).encode())
    files = [method.script, PEERS / "protocol.py", PEERS / "distilling.py", *setting.rows.values()]
    files += [method.requirements] if method.requirements else []
    if method.script == OURS:
        files += [path for part in _OWN_CODE for path in sorted((ROOT / "compress" / part).rglob("*.py"))]
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
