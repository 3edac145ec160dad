"""A virtual environment for each peer, made from its own pinned requirements."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from compress.display import say
from compress.errors import CompressError


def python_of(requirements: Path, work: Path) -> Path:
    """Return the interpreter of the environment that `requirements` describes, made where it is missing.

    What a `requirements-no-deps.txt` beside it lists is installed without what it asks for.
    """
    bare = requirements.with_name("requirements-no-deps.txt")
    files = {requirements: [], **({bare: ["--no-deps"]} if bare.exists() else {})}
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    folder = work / "environments" / f"{requirements.parent.name}-{digest}"
    python, done = folder / "bin" / "python", folder / ".done"
    if not done.exists():
        say(f"making the environment of {requirements.parent.name}")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for path, flags in files.items():
            subprocess.run([*pip, *flags, "-r", str(path)], check=True, stdout=sys.stderr)
        done.touch()
    return python


def run_method(python: Path, script: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Run a method's script on `job.json` of a folder; where it fails, its last words become `facts.json`.

    Args:
        python: interpreter of its environment.
        script: reads the job and leaves its results in the folder.
        folder: its working folder; `log.txt` gets what it prints.
        environment: variables besides those of this process.

    Raises:
        CompressError: it was killed, which says nothing of the method.
    """
    log = folder / "log.txt"
    with log.open("w") as stream:
        done = subprocess.run(
            [str(python), str(script), str(folder / "job.json")],
            env=os.environ | environment | {"HF_HUB_OFFLINE": "1"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    if done.returncode < 0:
        raise CompressError("the method was killed", place=str(script), remedy="Run the suite again.")
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        (folder / "facts.json").write_text(json.dumps({"error": lines[-1]}, indent=2) + "\n")
