"""A small file of made-up reviews that a tiny model can learn."""

import itertools
from pathlib import Path

NOUNS, GOOD, BAD = ("film", "plot", "cast"), ("good", "fine", "bright"), ("bad", "dull")
VERBS, INTENSITY = ("is", "was"), ("", "very ")


def write_reviews(path: Path, pair: bool = False, labels=("negative", "positive")) -> Path:
    """Write a csv of distinct sentences, or of pairs of them, with their label."""
    header = "sentence1,sentence2,label" if pair else "text,label"
    rows = []
    for article, noun, verb, much, word in itertools.product(
        ("the", "a"), NOUNS, VERBS, INTENSITY, (*GOOD, *BAD)
    ):
        label = labels[word in GOOD]
        second = f",{word} {noun}" if pair else ""
        rows.append(f"{article} {noun} {verb} {much}{word}{second},{label}")
    path.write_text("\n".join([header, *rows]) + "\n")
    return path
