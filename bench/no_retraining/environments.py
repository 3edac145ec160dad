"""A virtual environment for each peer, made from its own pinned requirements."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from compress.display import say


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
