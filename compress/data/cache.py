"""Files and folders of the user's cache that appear whole or not at all, made by one process at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.assets import cache_root
from compress.errors import InputError


def cached(room: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return a file or folder of the cache, built where it is missing; other processes wait for the one that builds.

    A kill leaves nothing or the whole.

    Args:
        room: folder of the cache.
        key: its name there, which must stand for all that decides the content.
        build: writes it at the path that it is given.

    Raises:
        InputError: the cache cannot be written, or what `build` raises.
    """
    path = cache_root() / room / key
    if not path.exists():
        with scratch(room, key) as folder:
            if not path.exists():  # else another process built it while we waited
                build(folder / "new")
                (folder / "new").replace(path)
    return path


@contextmanager
def scratch(room: str, key: str) -> Iterator[Path]:
    """Yield an empty folder inside a room of the cache, for one process at a time, and remove it afterwards.

    Raises:
        InputError: the cache cannot be written.
    """
    from filelock import FileLock

    folder = cache_root() / room
    own = folder / f".{key}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{key}.lock"):
            # The lock is ours, so whatever an earlier, killed run left behind is nobody's.
            shutil.rmtree(own, ignore_errors=True)
            own.mkdir()
            try:
                yield own
            finally:
                shutil.rmtree(own, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the cache cannot be written ({error})",
            place=str(folder),
            remedy="Set COMPRESS_CACHE to a folder with space that you may write to",
        ) from error


def damaged(what: str, path: Path, why: str) -> InputError:
    """Return the error of a file or folder of the cache that was whole once and cannot be read."""
    return InputError(
        f"the cached {what} are damaged ({why})", place=str(path), remedy="Remove it; they are made again."
    )
