"""The structures that a search may choose from: depth, width, pruning, ranks and vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from compress.passes.base import Pass
from compress.passes.factorize import Factorize
from compress.passes.prune import Prune
from compress.passes.vocabulary import Vocabulary

_DEPTHS = (1, 5 / 6, 2 / 3, 1 / 2, 1 / 3, 1 / 6)
_WIDTHS = (1, 2 / 3, 1 / 2)
_SPARSITIES = (0.0, 0.3, 0.45, 0.6)
_KEEPS = (1.0, 0.6)
_ROWS = (12_000, 6_000)


@dataclass(frozen=True, order=True)
class Structure:
    """How much of a model is left.

    Attributes:
        layers: encoder layers.
        hidden: hidden width.
        sparsity: share of the head and feed-forward weights that is pruned.
        keep: share of the linear layers' weights after factorization; 1: not factorized.
        rows: of the token embeddings, at most.
    """

    layers: int
    hidden: int
    sparsity: float
    keep: float
    rows: int

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return f"l{self.layers}-h{self.hidden}-p{self.sparsity:.0%}-k{self.keep:.0%}-v{self.rows}".replace(
            "%", ""
        )

    def of(self, whole: Structure) -> str:
        """Say what differs from the whole model."""
        parts = [f"{self.layers} of {whole.layers} layers"] if self.layers < whole.layers else []
        if self.hidden < whole.hidden:
            parts.append(f"width {self.hidden} of {whole.hidden}")
        if self.sparsity:
            parts.append(f"{self.sparsity:.0%} pruned")
        if self.keep < 1:
            parts.append(f"ranks for {self.keep:.0%}")
        if self.rows < whole.rows:
            parts.append(f"{self.rows:,} embedding rows")
        return ", ".join(parts) or "whole"

    def within(self, other: Structure) -> bool:
        """Say whether `other` has as much of everything, or more."""
        return (
            self.layers <= other.layers
            and self.hidden <= other.hidden
            and self.sparsity >= other.sparsity
            and self.keep <= other.keep
            and self.rows <= other.rows
        )

    def passes(self, whole: Structure, trained: bool = True) -> list[Pass]:
        """Return the passes that make it of a model of its depth.

        Args:
            whole: the model's.
            trained: False for one that is only timed, made without data, its rows left alone.
        """
        found: list[Pass] = []
        if self.rows < whole.rows and trained:
            found.append(Vocabulary(max_size=self.rows))
        hidden = self.hidden if self.hidden < whole.hidden else None
        if hidden or self.sparsity:
            blind = {} if trained else {"criterion": "magnitude", "reconstruct": False, "scope": "local"}
            found.append(Prune.model_validate({"hidden": hidden, "sparsity": self.sparsity, **blind}))
        if self.keep < 1:
            blind = {} if trained else {"method": "plain", "reconstruct": False}
            found.append(Factorize.model_validate({"keep": self.keep, **blind}))
        return found


def _widths(whole: Structure) -> list[int]:
    return list(dict.fromkeys(max(8, round(whole.hidden * share / 8) * 8) for share in _WIDTHS))


def changes(structure: Structure, whole: Structure) -> tuple[str, ...]:
    """Name what is done to a layer, each change by itself."""
    named = {
        f"width {structure.hidden}": structure.hidden < whole.hidden,
        f"{structure.sparsity:.0%} pruned": structure.sparsity > 0,
        f"ranks for {structure.keep:.0%}": structure.keep < 1,
    }
    return tuple(name for name, made in named.items() if made)


def single_changes(whole: Structure) -> dict[str, Structure]:
    """Return, by its name, the whole model with each change of a layer made alone."""
    found = [replace(whole, hidden=hidden) for hidden in _widths(whole)]
    found += [replace(whole, sparsity=sparsity) for sparsity in _SPARSITIES]
    found += [replace(whole, keep=keep) for keep in _KEEPS]
    return {named[0]: each for each in found if (named := changes(each, whole))}


def structures(whole: Structure, fewer_rows: bool) -> list[Structure]:
    """Return every structure that may be chosen.

    Args:
        whole: the model's.
        fewer_rows: whether embedding rows may go; they take room, not time.
    """
    depths = dict.fromkeys(max(1, round(whole.layers * share)) for share in _DEPTHS)
    rows = [whole.rows, *(each for each in _ROWS if fewer_rows and each < whole.rows)]
    return [
        Structure(*each)
        for each in product(depths, _widths(whole), _SPARSITIES, _KEEPS, rows)
        if each[3] == 1 or each[1] == whole.hidden  # a narrower layer has no ranks to spare
    ]


def largest(found: Iterable[Structure]) -> list[Structure]:
    """Return those that no other one has as much as, in everything: a smaller one can answer no better."""
    candidates = list(found)
    return [
        each for each in candidates if not any(each != other and each.within(other) for other in candidates)
    ]
