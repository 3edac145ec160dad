"""What each runtime needs on this machine: Python environments, npm packages, a browser. Made once, in `work`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from compress.display import say

NODE = Path(__file__).parent / "node"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Missing(Exception):
    """This machine lacks something; the message says what."""


def program(name: str) -> str:
    """Return the path of a program, or raise Missing."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"no {name} on this machine")
    return found


def browser() -> str:
    """Return the path of Chromium: what the variable CHROMIUM names, else what the system has."""
    named = os.environ.get("CHROMIUM")
    found = named if named else next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise Missing("no chromium on this machine")
    return found


def node_modules(work: Path) -> Path:
    """Return a folder with the npm packages of `node/package.json`, made where it is missing."""
    wanted = (NODE / "package.json").read_bytes()
    folder = work / "environments" / f"node-{hashlib.sha256(wanted).hexdigest()[:12]}"
    done = folder / ".done"
    if not done.exists():
        npm = program("npm")
        say("installing the npm packages")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_bytes(wanted)
        # Without their scripts, which fetch libraries for GPUs.
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
        done.touch()
    return folder / "node_modules"
