"""Rounding a matrix so that the errors of its weights make up for each other in what a layer puts out."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.quantization.blocks import BlockCodes, fit_grid, nearest, round_to_nearest

DAMPING = 0.01  # share of the inputs' mean energy added to every direction, as in the paper


def round_compensated(weight: Tensor, gram: Tensor, bits: int, block: int) -> BlockCodes:
    """Round column after column, each time moving the columns still to come to where the output errs least.

    GPTQ (Frantar et al. 2022, arXiv:2210.17323, section 3): with G the damped moments of the inputs and R the
    upper Cholesky factor of its inverse (G⁻¹ = Rᵀ R), rounding column j leaves e = (w_j − ŵ_j) / R_jj, and the
    columns k > j lose e · R_jk: the closed-form minimum of (w − ŵ) G (w − ŵ)ᵀ over them. A block's grid is fitted
    when its first column is reached. Rows are independent, and a row for which rounding to nearest has the smaller
    error keeps that, so that no row's error (w − ŵ) gram (w − ŵ)ᵀ exceeds that of `round_to_nearest`.

    Args:
        weight: (rows, columns) floats.
        gram: second moments of the inputs, (columns, columns) float64; it may be singular.
        bits: 4 or 8.
        block: columns that share a grid.

    Raises:
        InputError: the matrix holds a value that is not finite.
    """
    plain = round_to_nearest(weight, bits, block)
    root = _inverse_root(gram)
    original, columns = weight.detach().double(), weight.shape[1]
    rest = original.clone()
    codes, scales, zero_points = plain.codes.clone(), plain.scale.clone(), plain.zero_point.clone()
    for group, start in enumerate(range(0, columns, block)):
        stop = min(start + block, columns)
        scale, zero_point = fit_grid(rest[:, start:stop], bits)
        scales[:, group], zero_points[:, group] = scale, zero_point.to(torch.uint8)
        codes[:, group] = zero_points[:, group, None]
        errors = rest.new_empty(len(rest), stop - start)
        for column in range(start, stop):
            code = nearest(rest[:, column, None].float(), scale, zero_point, bits)[:, 0]
            codes[:, group, column - start] = code.to(torch.uint8)
            error = (rest[:, column] - ((code - zero_point) * scale).double()) / root[column, column]
            rest[:, column + 1 : stop] -= torch.outer(error, root[column, column + 1 : stop])
            errors[:, column - start] = error
        rest[:, stop:] -= errors @ root[start:stop, stop:]
    solved = BlockCodes(codes, scales, zero_points, columns)
    better = output_error(original, solved, gram) < output_error(original, plain, gram)
    return BlockCodes(
        torch.where(better[:, None, None], solved.codes, plain.codes),
        torch.where(better[:, None], solved.scale, plain.scale),
        torch.where(better[:, None], solved.zero_point, plain.zero_point),
        columns,
    )


def output_error(weight: Tensor, rounded: BlockCodes, gram: Tensor) -> Tensor:
    """Return each row's mean squared error of the output, (w − ŵ) gram (w − ŵ)ᵀ, float64 (rows,)."""
    lost = weight.double() - rounded.dequantize().double()
    return ((lost @ gram) * lost).sum(1)


def _inverse_root(gram: Tensor) -> Tensor:
    """Return the upper R with Rᵀ R = (gram, damped)⁻¹, float64."""
    damped = gram.double().clone()
    damped.diagonal().add_((DAMPING * damped.diagonal().mean()).clamp_min(torch.finfo(damped.dtype).tiny))
    root: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    return root
