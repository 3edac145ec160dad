"""What a smaller vocabulary does to text: nothing where all pieces stayed, and how much elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.errors import CompressError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Texts encoded at once: enough for the library's threads, little memory.
_CHUNK = 1024


@dataclass(frozen=True)
class Change:
    """How text comes out of a tokenizer with fewer pieces.

    Attributes:
        tokens: how many the text had, special tokens not counted.
        gone: how many of these have no piece any more.
        new_tokens: how many tokens the text has now.
        unknown: how many more of them stand for an unknown piece.
    """

    tokens: int
    gone: int
    new_tokens: int
    unknown: int


def encoded(backend: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the ids of each text, without special tokens."""
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        for encoding in backend.encode_batch_fast(chunk, add_special_tokens=False):
            yield encoding.ids


def count_pieces(backend: Tokenizer, texts: Sequence[str]) -> Counter[int]:
    """Count how often each id occurs in `texts`."""
    counts: Counter[int] = Counter()
    for ids in encoded(backend, texts):
        counts.update(ids)
    return counts


def check_unchanged(old: Tokenizer, new: Tokenizer, new_id: Mapping[int, int], texts: Sequence[str]) -> int:
    """Tokenize every text both ways and return how many have all their pieces left: these come out the same.

    It follows from how each kind of tokenizer works, and is checked all the same:
    - WordPiece takes the longest piece that fits. If it is there still, no longer one can have appeared.
    - Unigram takes the path of the best score. If its pieces are there still, it is among fewer paths with the
      same scores, so it is the best still.
    - BPE merges the pair of the lowest rank first. If every merge on the way is there still (`pieces.choose`
      sees to it), each step finds the same pair, among fewer others.
    - WordLevel looks words up.

    Args:
        old: a tokenizer that neither cuts nor pads.
        new: the one made of it.
        new_id: new id by old one for the pieces that stay.
        texts: any.

    Raises:
        CompressError: a text whose pieces all stay comes out otherwise.
    """
    same = 0
    for text, before, after in zip(texts, encoded(old, texts), encoded(new, texts), strict=True):
        if any(index not in new_id for index in before):
            continue
        if after != [new_id[index] for index in before]:
            raise CompressError(
                "a text whose pieces all stay would be cut otherwise",
                place=f"text {text!r:.60}",
                remedy="Leave this model's vocabulary as it is, and report it with the model's name.",
            )
        same += 1
    return same


def change(
    old: Tokenizer, new: Tokenizer, new_id: Mapping[int, int], unknown: int | None, texts: Sequence[str]
) -> Change:
    """Compare how `texts` come out; `unknown` is the old id of the unknown piece, None where there is none."""
    before, after = count_pieces(old, texts), count_pieces(new, texts)
    return Change(
        tokens=before.total(),
        gone=sum(count for index, count in before.items() if index not in new_id),
        new_tokens=after.total(),
        unknown=0 if unknown is None else after[new_id[unknown]] - before[unknown],
    )
