"""Texts replaced by others of the set that share words with them: new pairs for a task over pairs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_COMMON = 1_000  # texts; a word of more than so many says little, and following it would cost their square
_ROWS = 256  # texts whose neighbours are looked for together


class NearTexts(Augmentation, frozen=True):
    """Replace a text by another one of the set that shares words with it.

    For tasks over pairs: the text that stays has a new partner, like enough to its old one that every degree of
    likeness comes up, which the teacher then labels. The other one is drawn among the `top_k` nearest by the cosine
    of TF-IDF vectors; a text that shares no word with another stays.

    Source: Thakur et al. 2021 ("Augmented SBERT", section 3.1), whose pairs are sampled by BM25 and labelled by the
    cross-encoder; TF-IDF with logarithmic counts as in Salton & Buckley 1988. Words of more than 1,000 texts do
    not count, so the cost grows with the number of texts, not with its square.

    Example:
        - {method: near-texts, copies: 8}
    """

    pairs_only: ClassVar[bool] = True  # of single texts come none but those that are there already
    method: Literal["near-texts"] = "near-texts"
    top_k: PositiveInt = Field(10, description="texts to draw from")

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Count the words of all texts."""
        known = corpus()
        vectorizer, vectors = _vectors(known)
        places = {text: place for place, text in enumerate(known)}
        across = vectors.T.tocsr()

        def rewrite(texts: Sequence[str], generators: Sequence[Random]) -> list[str]:
            out = []
            for start in range(0, len(texts), _ROWS):
                rows = texts[start : start + _ROWS]
                likeness = vectorizer.transform(rows) @ across
                for number, (text, generator) in enumerate(zip(rows, generators[start:], strict=False)):
                    near = _nearest(likeness, number, places.get(text), self.top_k)
                    out.append(known[generator.choice(near)] if near else text)
            return out

        return rewrite


def _vectors(texts: list[str]) -> tuple[Any, csr_matrix]:
    """Return what turns texts into TF-IDF vectors, and those of the texts given, (texts, words)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    most = _COMMON if len(texts) > _COMMON else 1.0
    vectorizer = TfidfVectorizer(sublinear_tf=True, max_df=most, token_pattern=r"\w+")
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError as error:  # no word in any text, or none that only some have
        raise InputError(
            "near-texts finds no words that texts share",
            place="augmentation",
            remedy="Take another method",
        ) from error


def _nearest(likeness: csr_matrix, row: int, itself: int | None, top_k: int) -> list[int]:
    """Return the columns of a sparse row's `top_k` largest values, equal ones in order, without `itself`."""
    import numpy as np

    start, end = likeness.indptr[row : row + 2]
    columns, values = likeness.indices[start:end], likeness.data[start:end]
    if itself is not None:
        columns, values = columns[columns != itself], values[columns != itself]
    order = np.lexsort((columns, -values))[:top_k]
    return [int(column) for column in columns[order]]
