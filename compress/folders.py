"""Folders that appear whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.errors import FolderError

RUN = "run.json"  # in a folder of several results, to which a run adds its own
RESULTS = {"manifest.json", "report.json"}  # in a folder of one result, which takes an earlier one's place


def check_output(folder: Path, *, run: bool = False) -> None:
    """Refuse an output folder that holds something else or cannot be written, before any work is done.

    Allowed are a missing or empty folder, and one that this toolkit wrote as it will now: one result does not take
    the place of a run, which would delete all of its steps, and a run does not go into a result.

    Args:
        folder: where the output goes.
        run: whether it is a run's folder, else that of one result.

    Raises:
        FolderError: with the reason.
    """
    if folder.exists():
        if not folder.is_dir():
            raise FolderError("there is a file of that name", place=str(folder), remedy="Give another --out.")
        names = {path.name for path in folder.iterdir()}
        if names and not (RUN in names if run else names & RESULTS and RUN not in names):
            raise FolderError(
                f"the folder holds something else ({', '.join(sorted(names)[:3])})",
                place=str(folder),
                remedy="Give an empty or new folder as --out.",
            )
    parent = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise FolderError(f"{parent} cannot be written", place=str(folder), remedy="Give another --out.")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; on success it takes `folder`'s place.

    On an error, an interrupt or a kill, `folder` is what it was before.
    """
    check_output(folder)
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    except OSError as error:
        raise FolderError(
            f"cannot be written ({error.strerror})", place=str(folder), remedy="Give another --out."
        ) from error
    new.chmod(0o755)
    try:
        yield new
        if not folder.exists():
            new.rename(folder)
        elif not _exchange(new, folder):
            old = new.with_suffix(".old")
            folder.rename(old)
            new.rename(folder)
            shutil.rmtree(old)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, which Python itself has no call for; False where the system has none."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, bytes(one), here, bytes(other), swap) == 0
