"""Which word pieces stay, so that text made of them is cut as before and no known character becomes unknown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from compress.errors import InputError
from compress.pruning.vocabulary.backend import State, named_ids, piece_ids

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def floor(state: State) -> set[int]:
    """Return the ids that stay whatever the data: without them text would become unknown, or not load.

    They are the added and special tokens, single characters with their continuation and word-end forms (in
    byte-level BPE the 256 bytes), byte-fallback pieces, and pieces spelled with a character that has no piece
    of its own. In Unigram also the ids up to that of the unknown piece, which transformers' classes fix, and one
    piece of the lowest score, which the score of unknown characters is derived from.

    Args:
        state: a tokenizer's JSON.
    """
    model, ids = state["model"], piece_ids(state)
    kept = named_ids(state)
    if model["type"] == "WordLevel":
        return kept
    for piece, index in ids.items():
        spelled = symbols(piece, model)
        if len(spelled) == 1 or _BYTE.fullmatch(piece) or not all(symbol in ids for symbol in spelled):
            kept.add(index)
    if model["type"] == "Unigram":
        kept.update(range((model["unk_id"] or 0) + 1))
        kept.add(min(range(len(model["vocab"])), key=lambda index: model["vocab"][index][1]))
    return kept


def choose(
    counts: Counter[int], always: set[int], state: State, min_count: int, max_size: int | None = None
) -> list[int]:
    """Return the ids that stay, ascending, so that the order of the pieces is the old one.

    Args:
        counts: how often each id was seen.
        always: ids that stay whatever the counts; see `floor`.
        state: the tokenizer's JSON. In BPE a piece brings the pieces that it is merged from.
        min_count: ids seen at least this often stay.
        max_size: at most this many ids, the most frequent first; None sets no bound.

    Raises:
        InputError: `max_size` is less than what always stays.
    """
    parts = _Parts(state) if state["model"]["type"] == "BPE" else None
    kept = set[int]()
    for index in always:
        kept |= parts.of(index) if parts else {index}
    if max_size is not None and len(kept) > max_size:
        raise InputError(
            f"max_size {max_size:,} is less than the {len(kept):,} pieces that always stay",
            place="vocabulary",
            remedy="Raise it: single characters, bytes, special tokens and the texts to keep cannot go.",
        )
    for index, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count < min_count:
            break
        new = (parts.of(index) if parts else {index}) - kept
        if max_size is None or len(kept) + len(new) <= max_size:
            kept |= new
    return sorted(kept)


def symbols(piece: str, model: dict[str, Any]) -> list[str]:
    """Return the single characters that a piece is spelled with, in the forms that the model gives them.

    `##ing` gives `##i ##n ##g` under the prefix `##`; `ing</w>` gives `i n g</w>` under the suffix `</w>`.
    """
    prefix: str = model.get("continuing_subword_prefix") or ""
    suffix: str = model.get("end_of_word_suffix") or ""
    inside = bool(prefix) and piece.startswith(prefix) and piece != prefix
    text = piece[len(prefix) :] if inside else piece
    ends = bool(suffix) and text.endswith(suffix) and text != suffix
    text = text[: -len(suffix)] if ends else text
    spelled = [prefix + letter if inside or place else letter for place, letter in enumerate(text)]
    if ends:
        spelled[-1] += suffix
    return spelled


class _Parts:
    """The pieces that BPE goes through on its way to a piece."""

    def __init__(self, state: State) -> None:
        self.model, self.ids = state["model"], piece_ids(state)
        self.names = {index: piece for piece, index in self.ids.items()}
        self.ranks = {(left, right): rank for rank, (left, right) in enumerate(self.model["merges"])}
        self.prefix: str = self.model.get("continuing_subword_prefix") or ""
        self.added = named_ids(state)

    def of(self, index: int) -> set[int]:
        """Return `index` and the ids of everything that is merged on the way to it, in the order of ranks.

        Alone or inside a longer word the way is the same: pairs across the borders of a piece that comes out
        were never merged.
        """
        if index in self.added or index not in self.names:
            return {index}
        word = symbols(self.names[index], self.model)
        seen = {index, *self._known(word)}
        while len(word) > 1:
            pairs = [(self.ranks.get(pair), at) for at, pair in enumerate(zip(word, word[1:], strict=False))]
            rank, at = min(((rank, at) for rank, at in pairs if rank is not None), default=(None, 0))
            if rank is None:
                break
            word[at : at + 2] = [word[at] + word[at + 1].removeprefix(self.prefix)]
            seen.update(self._known(word[at : at + 1]))
        return seen

    def _known(self, pieces: Iterable[str]) -> list[int]:
        return [self.ids[piece] for piece in pieces if piece in self.ids]
