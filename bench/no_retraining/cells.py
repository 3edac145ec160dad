"""Runs one method on one model at one share, in a process of its own; results stay on disk, so that a run resumes."""

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

from bench.no_retraining.environments import python_of, run_method
from bench.no_retraining.methods import OURS, PEERS, Method
from bench.no_retraining.models import ROOT, SEED, Subject
from compress.artifact import content_hash

# What decides our own results besides the script.
_OWN_CODE = ("architectures", "calibration", "factorization", "layers", "passes", "pruning")
_RECOVERY_CODE = ("distillation", "training")


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
    folder, key = _folder(model, name, share, work), _key(subject, method, share)
    if not is_finished(model, subject, name, method, share, work):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _run(subject, method, share, folder, work)
        (folder / "key").write_text(key)
    stored = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    right = None if "error" in stored else np.load(folder / "logits.npy").argmax(1) == subject.labels
    return Cell(model, name, share, right, stored)


def is_finished(model: str, subject: Subject, name: str, method: Method, share: float, work: Path) -> bool:
    """Say whether the cell is on disk and nothing that decides it has changed since."""
    key = _folder(model, name, share, work) / "key"
    return key.exists() and key.read_text() == _key(subject, method, share)


def _folder(model: str, name: str, share: float, work: Path) -> Path:
    return work / "cells" / f"{model}-{name}-{share:g}"


def _run(subject: Subject, method: Method, share: float, folder: Path, work: Path) -> None:
    """Run the method's script; where it fails, its last words are the result."""
    job = {
        "model": str(subject.folder),
        "calibration": str(subject.calibration),
        "test": str(subject.test),
        "out": str(folder),
        "variant": method.variant,
        "share": share,
        "seed": SEED,
    }
    (folder / "job.json").write_text(json.dumps(job, indent=2) + "\n")
    python = python_of(method.requirements, work) if method.requirements else Path(sys.executable)
    paths = os.pathsep.join([str(PEERS), *([] if method.requirements else [str(ROOT)])])
    try:
        run_method(python, method.script, folder, {"PYTHONPATH": paths})
    finally:
        shutil.rmtree(folder / "saved", ignore_errors=True)


def _key(subject: Subject, method: Method, share: float) -> str:
    """Return a hash of everything that decides a cell."""
    files = [method.script, PEERS / "protocol.py", subject.calibration, subject.test]
    files += [method.requirements] if method.requirements else []
    if method.script == OURS:
        parts = _OWN_CODE + _RECOVERY_CODE * method.recovers
        files += [path for part in parts for path in sorted((ROOT / "compress" / part).rglob("*.py"))]
    digest = hashlib.sha256(f"{content_hash(subject.folder)} {share} {method.variant} {SEED}".encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
