"""Words replaced by their neighbours in a model's token embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from re import Match
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.data.augmentation.models import embedding_table
from compress.data.augmentation.words import count, replaced, spelled, whole_words

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 256  # words whose neighbours are looked for together


class NeighbourWords(Augmentation, frozen=True):
    """Replace some words by words whose token embedding is near theirs by cosine.

    Source: Wang & Yang 2015 ("That's so annoying!!!", section 4), and the part of Jiao et al. 2020 (TinyBERT,
    algorithm 1) that word vectors do; here the vectors are the model's own input table, so any model at hand
    serves. Only words that are one whole token are replaced, and by such, each of the `top_k` nearest with equal
    chance. Neighbours of this kind are words of like use, opposites among them: the teacher labels what comes out.

    Example:
        - {method: neighbour-words, model: minilm-l6, rate: 0.2}
    """

    method: Literal["neighbour-words"] = "neighbour-words"
    model: str = Field(description="any model at hand")
    rate: float = Field(0.2, gt=0, lt=1, description="share of the words to replace")
    top_k: PositiveInt = Field(10, description="neighbours to draw from")

    def model_names(self) -> tuple[str, ...]:
        """Return the model whose embeddings are read."""
        return (self.model,)

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Read the model's embeddings."""
        import torch

        table, tokenizer = embedding_table(self.model)
        words = whole_words(tokenizer)
        ids = sorted(words)
        names = [words[i] for i in ids]
        rows = {name: row for row, name in enumerate(names)}
        unit = torch.nn.functional.normalize(table[ids], dim=1).to(device)
        near: dict[int, list[int]] = {}

        def rewrite(texts: Sequence[str], generators: Sequence[Random]) -> list[str]:
            found = [_in_table(text, rows) for text in texts]
            new_rows = {row for known in found for row in known.values()} - set(near)
            near.update(_nearest(unit, sorted(new_rows), self.top_k))
            out = []
            for text, known, generator in zip(texts, found, generators, strict=True):
                wanted = min(count(self.rate, len(spelled(text))), len(known))
                chosen = generator.sample(list(known), wanted)
                new = {word: names[generator.choice(near[known[word]])] for word in chosen}
                out.append(replaced(text, new))
            return out

        return rewrite


def _in_table(text: str, rows: dict[str, int]) -> dict[Match[str], int]:
    """Return the text's words that stand in the table, as they are or in small letters, with their rows."""
    found = {word: rows.get(word.group(), rows.get(word.group().lower())) for word in spelled(text)}
    return {word: row for word, row in found.items() if row is not None}


def _nearest(unit: Tensor, rows: list[int], top_k: int) -> dict[int, list[int]]:
    """Return the `top_k` rows nearest to each of `rows`, itself left out; `unit` is (words, width), rows of norm 1."""
    found: dict[int, list[int]] = {}
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        cosine = unit[part] @ unit.T
        cosine[range(len(part)), part] = -2
        indices = cosine.topk(min(top_k, len(unit) - 1), dim=1).indices
        found |= dict(zip(part, indices.tolist(), strict=True))
    return found
