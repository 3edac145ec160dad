"""In which order the units of a part go, and what the error is on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Share of the inputs' mean energy added to every direction before the Gram matrix is inverted.
DAMPING = 1e-2
_STEPS = 96  # a part with more units loses several at once
# Share of the units in the matrices that may be gone before these are made smaller. With an eighth, the products
# take 0.38 of what they would at full size (a third would be the least), and all copies together are a few matrices.
_GONE = 1 / 8


@dataclass(frozen=True)
class Elimination:
    """The order in which one part's units go.

    Attributes:
        order: all units, the first to go first.
        errors: entry k is the error after k units have gone, (units + 1,), from 0 up, never falling.
    """

    order: list[int]
    errors: list[float]

    def kept(self, count: int) -> list[int]:
        """Return the `count` units that go last, ascending."""
        return sorted(self.order[len(self.order) - count :])

    def error(self, count: int) -> float:
        """Return the error with `count` units left."""
        return self.errors[len(self.order) - count]


def by_score(scores: Tensor) -> Elimination:
    """Take the least important unit first; what is lost adds up.

    Args:
        scores: (units,), higher is more important, at least 0.
    """
    order = scores.argsort(stable=True)
    errors = torch.cat([scores.new_zeros(1), scores[order].cumsum(0)])
    return Elimination(order.tolist(), errors.tolist())


def surgeon(weight: Tensor, gram: Tensor, sensitivity: Tensor, width: int) -> Elimination:
    """Take the unit first whose loss the other units make up for best.

    The optimal brain surgeon (Hassibi & Stork 1993) for groups of columns, as in ZipLM (Kurtic et al. 2023,
    equations 2 to 4): with H = G + damping and the columns M of a unit, its loss costs

        tr(S W_M ((H⁻¹)_MM)⁻¹ W_Mᵀ)

    after the best change of all other columns, W ← W - W_M ((H⁻¹)_MM)⁻¹ (H⁻¹)_M,:, and H⁻¹ shrinks by the same
    elimination step. ZipLM's S is the identity; here it is what the model's answer makes of an output (see
    `compress.calibration.statistics`), so that costs of different layers are in one unit. A part of more than 96
    units loses several a step, chosen by their single costs.

    Args:
        weight: (out, units · width) of the layer that reads the units; computed in float64.
        gram: covariance of its inputs, (units · width)².
        sensitivity: S (out, out), positive semi-definite.
        width: columns a unit.

    Returns:
        Errors are E‖Δanswer‖² by that estimate.
    """
    units = weight.shape[1] // width
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(_damped(gram)))
    seen = root(sensitivity.double()) @ weight.double()  # the rows in which S is the identity
    present = torch.arange(units, device=weight.device)  # the units that the matrices have columns of
    alive = torch.ones(units, dtype=torch.bool, device=weight.device)
    at_once = max(1, units // _STEPS)
    order: list[int] = []
    errors = [0.0]
    while len(order) < units:
        if (~alive).sum() >= _GONE * len(alive):
            columns = _columns(alive.nonzero().flatten(), width)
            seen, inverse = seen[:, columns], inverse[columns][:, columns]
            present = present[alive]
            alive = alive[alive]
        costs = _costs(seen, inverse, width)
        costs[~alive] = torch.inf
        gone = costs.topk(min(at_once, units - len(order)), largest=False).indices
        index = _columns(gone, width)
        block = torch.linalg.inv(inverse[index][:, index])
        lost = float(torch.einsum("ij,jk,ik->", seen[:, index], block, seen[:, index]))
        share = costs[gone] / costs[gone].sum().clamp_min(torch.finfo(torch.float64).tiny)
        for unit, part in zip(present[gone].tolist(), share.tolist(), strict=True):
            order.append(unit)
            errors.append(errors[-1] + max(lost, 0.0) * part)
        step = block @ inverse[index]
        seen.addmm_(seen[:, index], step, alpha=-1)
        inverse.addmm_(inverse[:, index], step, alpha=-1)
        seen[:, index] = 0
        inverse[index] = 0
        inverse[:, index] = 0
        inverse[index, index] = 1
        alive[gone] = False
    return Elimination(order, errors)


def _columns(units: Tensor, width: int) -> Tensor:
    """Return the columns (units · width,) of units (units,)."""
    return (units[:, None] * width + torch.arange(width, device=units.device)).flatten()


def compensated(weight: Tensor, gram: Tensor, kept: Tensor) -> Tensor:
    """Return the columns `kept` of a weight, changed to make up best for those that go.

    The closed form of all of `surgeon`'s steps together: with H = G + damping, W H_:,K (H_KK)⁻¹.

    Args:
        weight: (out, in).
        gram: (in, in), covariance of the inputs.
        kept: ascending column indices (kept,).

    Returns:
        (out, kept) float64.
    """
    damped = _damped(gram)
    rows = weight.double() @ damped[:, kept]
    solution: Tensor = torch.cholesky_solve(rows.T, torch.linalg.cholesky(damped[kept][:, kept]))
    return solution.T


def root(matrix: Tensor) -> Tensor:
    """Return R with Rᵀ R = `matrix`, positive semi-definite (n, n); a singular one is no special case."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    rooted: Tensor = values.clamp_min(0).sqrt()[:, None] * vectors.T
    return rooted


def _damped(gram: Tensor) -> Tensor:
    """Return the Gram matrix with `DAMPING` in float64; one of inputs that never vary can be inverted too."""
    gram = gram.double()
    energy = gram.diagonal().mean().clamp_min(1e-30)
    return gram + DAMPING * energy * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def _costs(seen: Tensor, inverse: Tensor, width: int) -> Tensor:
    """Return what the loss of each unit alone costs (units,)."""
    if width == 1:
        return seen.square().sum(0) / inverse.diagonal()
    units = len(inverse) // width
    by_unit = seen.view(len(seen), units, width).transpose(0, 1)  # (units, out, width)
    blocks = inverse.view(units, width, units, width)
    diagonal = torch.stack([blocks[unit, :, unit] for unit in range(units)])  # (units, width, width)
    return torch.einsum("uij,ujk,uik->u", by_unit, torch.linalg.inv(diagonal), by_unit)
