"""Runs one method on one model at one share, in a process of its own; results stay on disk, so that a run resumes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.no_retraining.environments import python_of
from bench.no_retraining.methods import OURS, PEERS, Method
from bench.no_retraining.models import MODELS, ROOT, SEED, Subject
from compress.artifact import content_hash
from compress.errors import CompressError

# What decides our own results besides the script.
_OWN_CODE = ("architectures", "calibration", "factorization", "layers", "passes", "pruning", "tasks")


@dataclass(frozen=True)
class Cell:
    """One result.

    Attributes:
        model, method: keys of `MODELS` and `METHODS`.
        share: what was asked for.
        right: (test rows,) whether the answer is the label's; None where the method failed.
        facts: what `bench/peers/protocol.py` wrote; `error` where the method failed.
    """

    model: str
    method: str
    share: float
    right: NDArray[np.bool_] | None
    facts: dict[str, Any]


def measure(model: str, subject: Subject, name: str, method: Method, share: float, work: Path) -> Cell:
    """Return the cell, from disk where nothing that decides it has changed."""
    folder = work / "cells" / f"{model}-{name}-{share:g}"
    key = _key(subject, method, share)
    facts = folder / "facts.json"
    if not (folder / "key").exists() or (folder / "key").read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _run(model, subject, method, share, folder, work)
        (folder / "key").write_text(key)
    stored = json.loads(facts.read_text(encoding="utf-8"))
    right = None if "error" in stored else np.load(folder / "logits.npy").argmax(1) == subject.labels
    return Cell(model, name, share, right, stored)


def _run(model: str, subject: Subject, method: Method, share: float, folder: Path, work: Path) -> None:
    job = {
        "model": str(subject.folder),
        "calibration": str(subject.calibration),
        "test": str(subject.test),
        "out": str(folder),
        "variant": method.variant,
        "share": share,
        "seed": SEED,
    }
    failed = _script(method, job, folder, work)
    if method.recovery and not failed:
        seconds = _recover(model, subject, method, folder)
        failed = _script(
            method, job | {"model": str(folder / "recovered"), "variant": "answer"}, folder, work
        )
        if not failed:
            facts = json.loads((folder / "facts.json").read_text()) | {"recovery_seconds": seconds}
            (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")
    if failed:
        (folder / "facts.json").write_text(json.dumps({"error": failed}, indent=2) + "\n")
    for name in ("saved", "recovered"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _script(method: Method, job: dict[str, Any], folder: Path, work: Path) -> str:
    """Run a method's script; return why it failed, or nothing."""
    python = python_of(method.requirements, work) if method.requirements else Path(sys.executable)
    (folder / "job.json").write_text(json.dumps(job, indent=2) + "\n")
    paths = os.pathsep.join([str(PEERS), *([] if method.requirements else [str(ROOT)])])
    environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    log = folder / "log.txt"
    with log.open("w") as stream:
        done = subprocess.run(
            [str(python), str(method.script), str(folder / "job.json")],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    if done.returncode < 0:  # killed, which says nothing of the method
        raise CompressError("the method was killed", place=str(method.script), remedy="Run the suite again.")
    lines = log.read_text(errors="replace").strip().splitlines()
    return (lines or ["no output"])[-1] if done.returncode else ""


def _recover(model: str, subject: Subject, method: Method, folder: Path) -> float:
    """Train what was saved for one epoch, with the options of the dense model's training; return the seconds."""
    dense = MODELS[model]
    command = [sys.executable, str(ROOT / "cli.py")]
    if method.recovery == "teacher":
        command += ["distill", "--teacher", str(subject.folder), "--student", str(folder / "saved")]
    else:
        command += ["finetune", "--model", str(folder / "saved")]
    options = {
        "--data": dense.data,
        "--epochs": 1,
        "--learning-rate": dense.learning_rate,
        "--batch-size": dense.batch_size,
        "--max-length": dense.max_length,
        "--seed": SEED,
        "--out": folder / "recovered",
    }
    command += [str(part) for option in options.items() for part in option]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def _key(subject: Subject, method: Method, share: float) -> str:
    """Return a hash of everything that decides a cell."""
    files = [method.script, PEERS / "protocol.py", subject.calibration, subject.test]
    files += [method.requirements] if method.requirements else []
    if method.script == OURS:
        files += [path for part in _OWN_CODE for path in sorted((ROOT / "compress" / part).rglob("*.py"))]
    digest = hashlib.sha256(f"{content_hash(subject.folder)} {share} {method} {SEED}".encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
