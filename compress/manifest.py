"""Provenance: where a model came from, what was done to it, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from compress.data.config import DataConfig
from compress.tasks import Task

NAME = "manifest.json"


class PassRecord(BaseModel, frozen=True, extra="forbid"):
    """One pass that was run.

    Attributes:
        name: the pass, `prune` for example.
        config: its options as JSON.
        input_hash: `step_key` of everything that went in.
        seed: random seed of the run.
        versions: versions of the libraries that decide the result.
        seconds: wall time.
        before, after: metrics on the validation split.
        notes: facts the pass reported, a line each.
        unmet: budgets that it could not meet, a line each.
    """

    name: str
    config: dict[str, Any]
    input_hash: str
    seed: int
    versions: dict[str, str]
    seconds: float
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """What a folder is. `files` maps each file's relative name to the sha256 of its bytes."""

    format: Literal[1] = 1
    source: str = ""
    task: Task | None = None
    data: DataConfig | None = None
    history: tuple[PassRecord, ...] = ()
    files: dict[str, str] = {}

    @property
    def content_hash(self) -> str:
        """One hash for the whole folder's content."""
        return hash_json(self.files)


def hash_json(value: object) -> str:
    """Return the sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> dict[str, str]:
    """Map every file below `folder` but the manifest itself to its sha256."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}


def versions(*others: str) -> dict[str, str]:
    """Return the versions of the libraries that decide a result, and of `others`, as far as installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("compress-transformers", "torch", "transformers", "onnxruntime", "numpy", *others):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
