"""The best product of two thin matrices in place of one, plain or weighted by inputs and outputs."""

from __future__ import annotations

import torch
from torch import Tensor

# Share of the mean input energy added to every direction, so that directions which calibration never
# showed are still ordered by the weight itself instead of by rounding noise.
DAMPING = 1e-6


def truncate_svd(
    weight: Tensor, rank: int, gram: Tensor | None = None, sensitivity: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Split `weight` (out, in) into (first, second) with `second @ first` its best approximation of `rank`.

    Without `gram` it minimises ‖W - W'‖_F (Eckart-Young): the squared error is the sum of the discarded σ².
    With the Gram matrix of the inputs, G = XᵀX for X (tokens, in), it minimises ‖X (W - W')ᵀ‖_F, the
    objective of SVD-LLM (Wang et al. 2024): the squared error is the sum of the discarded σ² of W S for any
    S Sᵀ = G. If W S = U Σ Vᵀ, then W' = U_r Σ_r V_rᵀ S⁻¹ = U_r U_rᵀ W, so nothing is inverted here and a
    singular G is no special case: U_r are the leading eigenvectors of W G Wᵀ, found in the basis of W = Q R.
    With the sensitivity of the outputs, R Rᵀ = S, the objective is ‖X (W - W')ᵀ R‖_F: Rᵀ W is split, and R
    inverted.

    Args:
        weight: (out, in), any float dtype; computed in float64.
        rank: from 1 to min(out, in); at the upper end the product equals `weight`.
        gram: (in, in) symmetric positive semi-definite, in any scale, or None. `DAMPING` times its mean
            diagonal is added to the diagonal.
        sensitivity: (out, out) symmetric positive semi-definite, in any scale, or None; damped alike.

    Returns:
        first (rank, in) and second (out, rank) in `weight`'s dtype. Row i of the one and column i of the
        other have the same norm, which is kind to later quantization and training.

    Raises:
        ValueError: `rank` is out of range or `gram` or `sensitivity` has another size.
    """
    out_features, in_features = weight.shape
    if not 1 <= rank <= min(out_features, in_features):
        raise ValueError(f"rank {rank} for a matrix of shape {tuple(weight.shape)}")
    for name, metric, size in (("gram", gram, in_features), ("sensitivity", sensitivity, out_features)):
        if metric is not None and metric.shape != (size, size):
            raise ValueError(
                f"{name} of shape {tuple(metric.shape)} for a matrix of shape {tuple(weight.shape)}"
            )
    exact = weight.detach().double()
    if sensitivity is None:
        basis = _output_basis(exact, rank, gram)  # (out, rank), orthonormal
        first, second = basis.T @ exact, basis
    else:
        root = damped_root(sensitivity.to(exact))
        seen = root.T @ exact
        basis = _output_basis(seen, rank, gram)
        first, second = basis.T @ seen, torch.linalg.solve_triangular(root.T, basis, upper=True)
    scale = first.norm(dim=1) / second.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    scale = scale.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    return (first / scale[:, None]).to(weight.dtype), (second * scale).to(weight.dtype)


def discarded(weight: Tensor, gram: Tensor, sensitivity: Tensor) -> Tensor:
    """Return the least error tr(S (W - W') G (W - W')ᵀ) of every rank from 0 to min(out, in), (ranks + 1,).

    That is the sum of the σ² that `truncate_svd` discards at that rank.
    """
    r = _thin_qr(damped_root(sensitivity.double()).T @ weight.detach().double())[1]
    values = torch.linalg.eigvalsh(_energy(r, gram)).clamp_min(0)  # ascending
    return torch.cat([values.new_zeros(1), values.cumsum(0)]).flip(0)


def damped_root(matrix: Tensor) -> Tensor:
    """Return lower triangular R with R Rᵀ = `matrix` (n, n), positive semi-definite, damped.

    `DAMPING` times the mean of its diagonal is added to the diagonal.
    """
    damped = (matrix + matrix.T) / 2
    # Outputs that nothing reads have no metric at all.
    damped.diagonal().add_((DAMPING * matrix.diagonal().mean()).clamp_min(1e-30))
    root: Tensor = torch.linalg.cholesky(damped)
    return root


def _output_basis(weight: Tensor, rank: int, gram: Tensor | None) -> Tensor:
    q, r = _thin_qr(weight)
    vectors: Tensor = torch.linalg.eigh(_energy(r, gram)).eigenvectors  # of ascending eigenvalues
    return q @ vectors.flip(1)[:, :rank]


def _thin_qr(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q (out, k) and R (k, in), k = min(out, in): no eigenproblem is larger than k."""
    if weight.shape[0] <= weight.shape[1]:
        return torch.eye(weight.shape[0], dtype=weight.dtype, device=weight.device), weight
    q, r = torch.linalg.qr(weight)
    return q, r


def _energy(weight: Tensor, gram: Tensor | None) -> Tensor:
    """Return W (G + damping) Wᵀ, exactly symmetric."""
    if gram is None:
        return weight @ weight.T
    exact = gram.to(weight)
    energy = weight @ exact @ weight.T + DAMPING * exact.diagonal().mean() * (weight @ weight.T)
    return (energy + energy.T) / 2
