"""A small file of made-up reviews that a tiny model can learn."""

import itertools
from pathlib import Path

import datasets
from tiny_models import WORDS

from compress.data import TextData

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


def tiny_data():
    """48 texts of four of `tiny_tokenizer()`'s words, every split the same."""
    texts = [" ".join(WORDS[i * step % len(WORDS)] for step in (1, 2, 4, 7)) for i in range(48)]
    split = datasets.Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(48)]})
    return TextData("tiny", split, split, split, ("negative", "positive"), False, "0", ())
