"""The input embedding as a thin table and a projection, closest for the ids that are used most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.architectures.embeddings import token_table
from compress.errors import InputError
from compress.factorization.svd import DAMPING, damped_root
from compress.layers import LowRankEmbedding, SharedEmbedding

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHUNK = 8192  # rows that are held in float64 at a time


@torch.no_grad()
def factorized_embedding(
    embedding: nn.Embedding, rank: int, row_weights: Tensor | None = None, metric: Tensor | None = None
) -> LowRankEmbedding:
    """Return the best stand-in of `rank` for a table E: its rows e'_i minimise Σ_i w_i (e_i - e'_i) M (e_i - e'_i)ᵀ.

    With S Sᵀ = M and D = diag(√w) the optimum is that of D E S = U Σ Vᵀ by Eckart-Young, and the error the sum of
    the discarded σ². It is E' = E S V_r V_rᵀ S⁻¹, for which the eigenvectors V of Sᵀ (Eᵀ D² E) S are enough: the
    only decomposition is of (width, width), whatever the number of rows.

    Args:
        embedding: weight (rows, width); computed in float64.
        rank: from 1 to min(rows, width); at width the result equals `embedding`.
        row_weights: (rows,) not negative, how much each row counts, such as how often its id occurs in the data
            plus one; None counts all alike. `DAMPING` times their mean is added, so that rows of weight 0 decide
            where no other row does.
        metric: (width, width) symmetric positive semi-definite, which directions matter to what reads the
            embedding; None is the identity. `DAMPING` times its mean diagonal is added to the diagonal.

    Returns:
        The pair in the dtype of `embedding`. Column i of the table and column i of the projection have the same
        norm, which is kind to later quantization and training.

    Raises:
        ValueError: `rank` is out of range, or weights or metric have another size or are not finite, negative or
            all zero.
    """
    rows, width = embedding.weight.shape
    if not 1 <= rank <= min(rows, width):
        raise ValueError(f"rank {rank} for a table of shape {(rows, width)}")
    counts = torch.ones(rows) if row_weights is None else row_weights
    if counts.shape != (rows,) or not counts.isfinite().all() or counts.min() < 0 or counts.max() == 0:
        raise ValueError(f"row weights have to be {rows} finite numbers, none negative and not all zero")
    counts = counts.to(embedding.weight.device, torch.float64)
    root = _factor(metric, embedding.weight)
    energy = root.T @ _gram(embedding.weight, counts + DAMPING * counts.mean()) @ root
    vectors = torch.linalg.eigh((energy + energy.T) / 2).eigenvectors.flip(1)[:, :rank]  # of largest first
    narrow = root @ vectors  # (width, rank)
    widen = torch.linalg.solve_triangular(root.T, vectors, upper=True)  # S⁻ᵀ V, (width, rank)
    table = torch.cat([part @ narrow for part in _chunks(embedding.weight)])
    tiny = torch.finfo(torch.float64).tiny
    scale = (table.norm(dim=0).clamp_min(tiny) / widen.norm(dim=0).clamp_min(tiny)).sqrt()
    pair = LowRankEmbedding(rows, width, rank, embedding.padding_idx).to(embedding.weight)
    pair.table.weight.copy_(table / scale)
    pair.second.weight.copy_(widen * scale)
    pair.requires_grad_(embedding.weight.requires_grad)
    return pair.train(embedding.training)


def factorize_input_embedding(
    model: PreTrainedModel, rank: int, id_weights: Tensor | None = None, metric: Tensor | None = None
) -> str:
    """Replace the token embedding of `model` by `factorized_embedding` in place and return its full name.

    Args:
        model: any with a table of token embeddings that nothing else reads.
        rank: below min(rows, width).
        id_weights: (ids,) how much each id counts; ids that share a row add up.
        metric: (width, width), see `factorized_embedding`.

    Raises:
        InputError: the embedding is not a plain or shared table, its weight has other users (a language model's
            head, the other half of an encoder and decoder), or the rank is not below min(rows, width).
    """
    name, table = token_table(model)
    embedding = model.get_input_embeddings()
    if any(isinstance(module, LowRankEmbedding) for module in embedding.modules()):
        raise InputError(
            "the token embeddings are factorized already", place=name, remedy="Leave embeddings out."
        )
    limit = min(table.weight.shape)
    if not 1 <= rank < limit:
        raise InputError(
            f"rank {rank} for a table of {table.num_embeddings} × {table.embedding_dim}",
            place=name,
            remedy=f"Give a rank from 1 to {limit - 1}.",
        )
    if id_weights is not None and isinstance(embedding, SharedEmbedding):
        sums = id_weights.new_zeros(table.num_embeddings)
        id_weights = sums.index_add_(0, embedding.row_of.to(sums.device).long(), id_weights)
    model.set_submodule(name, factorized_embedding(table, rank, id_weights, metric))
    return name


def _factor(metric: Tensor | None, like: Tensor) -> Tensor:
    """Return the lower triangular S with S Sᵀ the damped metric, (width, width) float64."""
    width = like.shape[1]
    if metric is None:
        return torch.eye(width, dtype=torch.float64, device=like.device)
    exact = metric.to(like.device, torch.float64)
    if exact.shape == (width, width) and exact.isfinite().all() and exact.diagonal().mean() > 0:
        return damped_root(exact)
    raise ValueError(f"the metric has to be a finite positive matrix of shape {(width, width)}")


def _gram(weight: Tensor, counts: Tensor) -> Tensor:
    """Return Eᵀ diag(counts) E, (width, width) float64."""
    gram = weight.new_zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
    for part, count in zip(_chunks(weight), torch.split(counts, _CHUNK), strict=True):
        gram.addmm_(part.T * count, part)
    return gram


def _chunks(weight: Tensor) -> Iterator[Tensor]:
    """Yield the rows in float64, some at a time: a large table would take gigabytes at once."""
    for part in torch.split(weight.detach(), _CHUNK):
        yield part.double()
