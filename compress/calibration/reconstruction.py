"""Re-solving the weights of a compressed model, layer by layer, by least squares on calibration text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.calibration.products import add_product_, mirror_, working_dtype
from compress.calibration.statistics import evaluating, valid_tokens
from compress.calibration.targets import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Share of the inputs' mean energy added to every direction, which pulls the solution towards the weights that
# the layer has: a few thousand tokens are no match for what training saw. 0.01 to 10 were tried.
RIDGE = 1.0

# Changes a layer in place given its inputs (tokens, in) and the outputs (tokens, out) that it should have.
Solver = Callable[[str, nn.Linear, Tensor, Tensor], None]


@torch.no_grad()
def reconstruct(
    model: PreTrainedModel, batch: dict[str, Tensor], targets: Mapping[str, Target], solve: Solver
) -> None:
    """Run `model` once over `batch` and hand each layer with a target to `solve` as the pass reaches it.

    Every layer thus sees the inputs that the layers before it give after they were solved, and is solved for the
    dense model's residual stream: errors are made up for and do not pile up. One forward pass in all, linear in
    layers. The idea of matching the dense model with the pruned one's own inputs, layer after layer, is that of
    K-prune (Park et al. 2024); the pass that solves as it goes is this project's.

    Args:
        model: compressed, changed in place; layers with a target are `nn.Linear`.
        batch: the batch that the targets were recorded on.
        targets: of `record_targets`.
        solve: changes weight and bias of a layer.
    """
    mask = batch.get("attention_mask")
    waiting: dict[str, tuple[Tensor, Tensor]] = {}

    def layer(name: str, module: nn.Linear, x: Tensor, y: Tensor) -> Tensor | None:
        target = targets[name]
        if target.norm:
            waiting[name] = (x, y)
            return None
        solve(name, module, valid_tokens(x, mask), target.wanted(None))
        return nn.functional.linear(x, module.weight, module.bias)

    def norm(name: str, module: nn.Linear, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, y = waiting.pop(name)
        residual = inputs[0] - y
        solve(name, module, valid_tokens(x, mask), targets[name].wanted(valid_tokens(residual, mask)))
        return (residual + nn.functional.linear(x, module.weight, module.bias), *inputs[1:])

    handles = []
    try:
        with evaluating(model):
            for name, target in targets.items():
                module = model.get_submodule(name)
                assert isinstance(module, nn.Linear)
                handles.append(
                    module.register_forward_hook(
                        lambda module, inputs, output, name=name: layer(name, module, inputs[0], output)
                    )
                )
                if target.norm:
                    handles.append(
                        model.get_submodule(target.norm).register_forward_pre_hook(
                            lambda _, inputs, name=name, module=module: norm(name, module, inputs)
                        )
                    )
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()


def least_squares(
    linear: nn.Linear, x: Tensor, wanted: Tensor, token_weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fit a layer to wanted outputs, starting from the weight W that it has.

    Minimises Σ_t w_t ‖(W + Δ) x_t + b - y_t‖² + λ ‖Δ‖² over Δ and b, with λ = `RIDGE` times the mean energy of
    an input times Σ w, so that a singular system is no special case. Products over tokens are float32 (float64 for
    float64 inputs), about the means; the system, whose condition λ keeps low, is solved in float64.

    Args:
        linear: weight (out, in); not changed.
        x: inputs (tokens, in).
        wanted: outputs y (tokens, out).
        token_weights: w (tokens,), or None for ones.

    Returns:
        In float64: weight (out, in); mean input (in,); mean wanted output (out,), so that the bias of any
        weight V is `mean_wanted - V @ mean_input` (a layer without a bias has both means zero); and the
        covariance of the inputs (in, in).
    """
    dtype = working_dtype(x.dtype)
    x, wanted, weight = x.to(dtype), wanted.to(dtype), linear.weight.to(dtype)
    share = x.new_ones(len(x)) if token_weights is None else token_weights
    share = (share / share.sum())[:, None].to(dtype)
    if linear.bias is not None:
        mean_x, mean_y = ((share * rows).sum(0, dtype=torch.float64) for rows in (x, wanted))
        x, wanted = x - mean_x.to(dtype), wanted - mean_y.to(dtype)
    else:
        mean_x, mean_y = (share.new_zeros(rows.shape[1], dtype=torch.float64) for rows in (x, wanted))
    missing = wanted - x @ weight.T
    weighted = x * share
    gram = x.new_zeros(x.shape[1], x.shape[1])
    add_product_(gram, x, weighted)
    gram = mirror_(gram.double())
    damped = gram.clone()
    damped.diagonal().add_(RIDGE * gram.diagonal().mean().clamp_min(torch.finfo(dtype).tiny))
    change = torch.cholesky_solve((weighted.T @ missing).double(), torch.linalg.cholesky(damped)).T
    return linear.weight.double() + change, mean_x, mean_y, gram


def set_weights(linear: nn.Linear, weight: Tensor, mean_x: Tensor, mean_y: Tensor) -> None:
    """Give a layer a weight and the bias that goes with it (see `least_squares`).

    They are new parameters: targets hold the old ones.
    """
    old, bias = linear.weight, linear.bias
    linear.weight = nn.Parameter(weight.to(old), requires_grad=old.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter((mean_y - weight @ mean_x).to(bias), requires_grad=bias.requires_grad)
