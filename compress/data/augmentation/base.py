"""What every method of augmentation has in common."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field, PositiveInt

if TYPE_CHECKING:
    from compress.data.texts import Row

# (texts, a source of randomness for each) -> the texts rewritten, in order; a text that it cannot change comes
# back as it was. What becomes of a text depends on nothing but the text, the set that it is from and its source of
# randomness.
Rewrite = Callable[[Sequence[str], Sequence[random.Random]], list[str]]
Corpus = Callable[[], list[str]]


class Augmentation(BaseModel, ABC, frozen=True, extra="forbid", defer_build=True):
    """A way to make new texts of given ones; the object that a user writes in YAML is the method itself."""

    pairs_only: ClassVar[bool] = False
    copies: PositiveInt = Field(1, description="new texts from each text")

    @abstractmethod
    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Load what the method needs and return the function that rewrites texts.

        Args:
            device: where a model runs.
            corpus: returns the different texts of the set, sorted.

        Raises:
            InputError: a model that is named cannot do what the method asks of it.
        """

    def model_names(self) -> tuple[str, ...]:
        """Return the models that the method reads; their content decides the result too."""
        return ()


def rewrite_rows(
    method: Augmentation, rewrite: Rewrite, rows: Sequence[Row], seed: int, copy: int
) -> list[Row]:
    """Rewrite one text of each row. In a pair it is either one, drawn by lot, so that the two keep to each other.

    Args:
        method: decides, with the other arguments and the row's own texts, what is drawn; so neither the order of the
            rows nor the number of processes changes what becomes of a row.
        rewrite: what `method.prepare` returned.
        rows: texts or pairs.
        seed: of the run.
        copy: which copy of the row this is, from 0.
    """
    generators = [random.Random(_hash(seed, copy, method.model_dump_json(), *row)) for row in rows]
    sides = [generator.randrange(len(row)) for generator, row in zip(generators, rows, strict=True)]
    texts = rewrite([row[side] for row, side in zip(rows, sides, strict=True)], generators)
    return [(*row[:side], text, *row[side + 1 :]) for row, side, text in zip(rows, sides, texts, strict=True)]


def _hash(*parts: object) -> int:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=16)
    return int.from_bytes(digest.digest(), "big")
