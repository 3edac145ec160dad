"""Rare pieces read the row of a piece that does the same to the model's answer: fewer rows, the same tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.architectures.embeddings import token_table
from compress.errors import InputError
from compress.layers import SharedEmbedding
from compress.layers.shared_embedding import with_rows
from compress.pruning.elimination import root

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Only so many times the rows that stay are looked at as candidates, the most frequent: a large vocabulary has
# hundreds of thousands, nearly all of which no text of this kind has.
_CANDIDATES = 4
_CHUNK = 1024  # rows whose distances to all others are held at once


def expected_counts(counts: Counter[int], ids: int) -> Tensor:
    """Estimate how often each id occurs in other text of the same kind and length.

    Good-Turing (Good 1953): as much of new text is pieces never seen as of this text is pieces seen once. That
    much is taken from the seen and spread over the unseen as 1 / (id + 1): vocabularies list their pieces by
    frequency or in the order they were merged, so that Zipf's law tells the common from the rare.

    Args:
        counts: how often each id was seen.
        ids: how many there are.

    Returns:
        (ids,) float64.
    """
    seen = torch.zeros(ids, dtype=torch.float64)
    for index, count in counts.items():
        seen[index] = count
    once, total = float((seen == 1).sum()), float(seen.sum())
    prior = torch.where(seen == 0, 1 / torch.arange(1, ids + 1, dtype=torch.float64), 0)
    unseen = once * prior / prior.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return seen * (1 - once / max(total, 1)) + unseen


def row_space(weight: Tensor, sensitivity: Tensor) -> Tensor:
    """Return rows (ids, width) float32 whose squared distances say how far an exchange moves the answer.

    The mean row is taken out, as the norm that follows does mostly; rows are brought to length 1, as what a row
    adds along itself is normalized away, too; directions count as the answer is sensitive to them.

    Args:
        weight: (ids, width).
        sensitivity: (width, width), of `compress.calibration.embeddings.embedding_sensitivity`.
    """
    scale = sensitivity.diagonal().mean()  # float32 has no room for answers that follow embeddings little
    rows = nn.functional.normalize(weight.float() - weight.float().mean(0), dim=1)
    return rows @ root(sensitivity / scale).float().T


def choose_rows(space: Tensor, expected: Tensor, always: Set[int], size: int) -> Tensor:
    """Return the ids that keep a row of their own, (size,) int64, ascending.

    A piece is worth its expected count times the squared distance to the nearest row of a more frequent one,
    which it would read instead: a rare word without synonyms stays, a common spelling variant may go.

    Args:
        space: of `row_space`.
        expected: of `expected_counts`.
        always: ids that stay whatever they are worth.
        size: how many stay.

    Raises:
        InputError: `size` is less than what always stays.
    """
    if size < len(always):
        raise InputError(
            f"max_size {size:,} is less than the {len(always):,} pieces that always stay",
            place="vocabulary",
            remedy="Raise it: special tokens, those that the config names and the texts to keep cannot go.",
        )
    rank = expected.clone()
    rank[sorted(always)] = torch.inf
    order = rank.argsort(descending=True, stable=True)[: _CANDIDATES * max(size, 1)]
    worth = torch.empty(len(order), dtype=torch.float64)
    ordered = space[order]
    for start in range(0, len(order), _CHUNK):
        end = min(start + _CHUNK, len(order))
        distances = _squared_distances(ordered[start:end], ordered[:end])
        later = torch.ones_like(distances, dtype=torch.bool).triu(start)
        nearest = distances.masked_fill_(later, torch.inf).amin(1)
        worth[start:end] = nearest * expected[order[start:end]]
    worth[: max(len(always), 1)] = torch.inf  # the first has no earlier one
    best = worth.argsort(descending=True, stable=True)[:size]
    return order[best].sort().values


def nearest_rows(space: Tensor, kept: Tensor) -> Tensor:
    """Return for each id the place in `kept` of its own row or else of the nearest, (ids,) int64."""
    rows = space[kept]
    row_of = torch.cat([_squared_distances(part, rows).argmin(1) for part in torch.split(space, _CHUNK)])
    row_of[kept] = torch.arange(len(kept))
    return row_of


@torch.no_grad()
def share_rows(
    model: PreTrainedModel, expected: Tensor, always: Set[int], size: int, sensitivity: Tensor
) -> Tensor:
    """Leave a model's token table `size` rows, in place; the rows that stay are bit for bit what they were.

    Args:
        model: any with a table of token embeddings that nothing else reads; low-rank and shared ones are fine.
        expected: (ids,) of `expected_counts`.
        always: ids whose rows stay.
        size: how many rows stay.
        sensitivity: (width, width) of the embedding's output.

    Returns:
        (ids,) int64, the id whose row each id reads now.

    Raises:
        InputError: the table is tied or quantized, or `size` is less than what always stays.
    """
    name, table = token_table(model)
    embedding = model.get_input_embeddings()
    weight = embedding(torch.arange(len(expected), device=table.weight.device))
    space = row_space(weight.cpu(), sensitivity.cpu())
    kept = choose_rows(space, expected, always, size)
    row_of = nearest_rows(space, kept)
    shared = next((part for part in embedding.modules() if isinstance(part, SharedEmbedding)), None)
    if shared is None:
        model.set_submodule(name, SharedEmbedding.of(table, kept, row_of))
    else:
        rows = shared.row_of.cpu()[kept].long()
        model.set_submodule(name, with_rows(table, rows))
        shared.row_of.copy_(row_of)
    return kept[row_of]


def _squared_distances(some: Tensor, others: Tensor) -> Tensor:
    """Return ‖a - b‖² for rows a of `some` (m, width) and b of `others` (n, width), (m, n)."""
    squares = some.square().sum(1)[:, None] + others.square().sum(1)
    return torch.addmm(squares, some, others.T, alpha=-2).clamp_min_(0)
