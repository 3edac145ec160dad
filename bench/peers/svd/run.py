"""Low-rank factorization as published, with the same share of weights for every matrix: the baselines.

Variants: `plain` (Eckart-Young) and `whitened` (SVD-LLM, Wang et al. 2024, without its parameter update). Of a
matrix (out, in) rank floor(share × out × in / (out + in)) is kept.
"""

from __future__ import annotations

import torch
from protocol import Job, layer_matrices, run
from torch import Tensor, nn
from transformers import PreTrainedModel


@torch.no_grad()
def compress(model: PreTrainedModel, job: Job) -> PreTrainedModel:
    """Replace every linear module of every layer by two."""
    grams = input_grams(model, job) if job.variant == "whitened" else {}
    for name, linear in layer_matrices(model).items():
        model.set_submodule(name, split(linear, job.share, grams.get(name)))
    return model


def split(linear: nn.Linear, share: float, gram: Tensor | None) -> nn.Sequential:
    """Return first (rank, in) and second (out, rank): U_r Σ_r and V_rᵀ S⁻¹ of W S = U Σ Vᵀ with S Sᵀ = `gram`."""
    weight = linear.weight.double()
    rank = int(share * weight.numel() / sum(weight.shape))
    root = torch.eye(len(weight.T), dtype=torch.float64) if gram is None else torch.linalg.cholesky(gram)
    u, sigma, v = torch.linalg.svd(weight @ root, full_matrices=False)
    pair = nn.Sequential(
        nn.Linear(linear.in_features, rank, bias=False), nn.Linear(rank, linear.out_features)
    )
    pair[0].weight.copy_(torch.linalg.solve_triangular(root, v[:rank], upper=False, left=False))
    pair[1].weight.copy_(u[:, :rank] * sigma[:rank])
    pair[1].bias.copy_(linear.bias)
    return pair


def input_grams(model: PreTrainedModel, job: Job) -> dict[str, Tensor]:
    """Return XᵀX (in, in) in float64 of every matrix's inputs at real tokens, with 1e-6 of its mean diagonal added."""
    sums: dict[str, Tensor] = {}
    mask = torch.empty(0)

    def add(name: str, x: Tensor) -> None:
        rows = x[mask].double()
        sums[name] = sums.get(name, 0) + rows.T @ rows

    matrices = layer_matrices(model)
    handles = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: add(name, inputs[0]))
        for name, module in matrices.items()
    ]
    for batch, _ in job.calibration_batches(model):
        mask = batch["attention_mask"].bool()
        model(**batch)
    for handle in handles:
        handle.remove()
    return {
        name: g + 1e-6 * g.diagonal().mean() * torch.eye(len(g), dtype=g.dtype) for name, g in sums.items()
    }


if __name__ == "__main__":
    run(compress)
