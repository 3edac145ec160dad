"""Unpack chosen members of wheels, zips and tarballs without letting a member escape its folder."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from compress.errors import InputError

Opener = Callable[[], IO[bytes]]


@contextmanager
def members(archive: Path | IO[bytes]) -> Iterator[list[tuple[str, Opener]]]:
    """Open a zip or tar archive as (member name, opener) pairs of its plain files.

    Links, devices and directories are left out: nothing but bytes of plain files is ever read.

    Args:
        archive: a path, or a seekable binary stream.

    Raises:
        InputError: the file is neither a zip nor a tar archive.
    """
    place = str(archive) if isinstance(archive, Path) else "archive"
    stream = archive.open("rb") if isinstance(archive, Path) else archive
    try:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as packed:
                yield [
                    (info.filename, lambda info=info: packed.open(info))  # type: ignore[misc]
                    for info in packed.infolist()
                    if not info.is_dir()
                ]
            return
        stream.seek(0)
        try:
            unrolled = tarfile.open(fileobj=stream)
        except tarfile.TarError as error:
            raise InputError("neither a zip nor a tar archive", place=place) from error
        with unrolled:
            yield [
                (info.name, lambda info=info: unrolled.extractfile(info) or io.BytesIO())  # type: ignore[misc]
                for info in unrolled.getmembers()
                if info.isfile()
            ]
    finally:
        if isinstance(archive, Path):
            stream.close()


def unpack(archive: Path | IO[bytes], into: Path, choose: Callable[[str], str | None]) -> list[Path]:
    """Copy the members that `choose` names to places under `into`.

    Args:
        archive: a zip or tar archive.
        into: the folder to fill; made when absent.
        choose: maps a member's name to a relative path under `into`, or to None to leave it out.

    Returns:
        The files written, in archive order.

    Raises:
        InputError: a chosen path is absolute or climbs out of `into`, or nothing was chosen.
    """
    written = []
    with members(archive) as found:
        for name, opener in found:
            chosen = choose(name)
            if chosen is None:
                continue
            target = into / _inside(chosen, archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            with opener() as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            written.append(target)
    if not written:
        raise InputError("the archive holds none of the expected files", place=str(archive))
    return written


def below(folder: str) -> Callable[[str], str | None]:
    """A `choose` for `unpack`: every member under `folder`, named relative to it."""
    prefix = folder.rstrip("/") + "/"
    return lambda name: name.removeprefix(prefix) if name.startswith(prefix) else None


def _inside(name: str, archive: object) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or not path.parts:
        raise InputError(f"member {name!r} would be written outside its folder", place=str(archive))
    return path
