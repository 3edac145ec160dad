"""Where to cut the range of an activation: one function a method, each from a histogram.

All return (low, high) with `low ≤ 0 ≤ high`; values beyond are taken for the bound itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compress.quantization.histograms import Histogram

Range = tuple[float, float]

LEVELS = 255  # steps from the lowest code to the highest
SHARE = 0.9999  # of all values that `percentile` leaves in the range
_CANDIDATES = 80  # bounds that `mse` tries on each side
_TENSORRT = 2048, 128  # bins of |x|, levels of |x|
_STRIDE = 8  # every so many bins `entropy` tries a bound


def minmax(histogram: Histogram) -> Range:
    """Return the smallest and the largest value seen (Jacob et al. 2018, section 3.1)."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, share: float = SHARE) -> Range:
    """Return the range that leaves out (1 - share) / 2 of the values at either end, to a bin's width."""
    below = histogram.counts.cumsum(0) / histogram.counts.sum()
    edges = torch.linspace(histogram.low, histogram.high, len(below) + 1, dtype=torch.float64)
    out = (1 - share) / 2
    low = edges[int((below <= out).sum())]
    high = edges[int((below < 1 - out).sum()) + 1]
    return min(low.item(), 0.0), max(high.item(), 0.0)


def mse(histogram: Histogram) -> Range:
    """Return the range whose codes are nearest to the values: least Σ (x - step · (code - zero_point))².

    From the full range on, the upper and the lower bound are chosen in turn, twice, out of 80 fractions of it
    (Nagel et al. 2021, arXiv:2106.08295, section 3.1.1).
    """
    seen = histogram.counts > 0
    values, counts = histogram.centers[seen], histogram.counts[seen]
    fractions = torch.arange(1, _CANDIDATES + 1, dtype=torch.float64) / _CANDIDATES
    low = torch.tensor(histogram.low, dtype=torch.float64)
    high = torch.tensor(histogram.high, dtype=torch.float64)
    for _ in range(2):
        highs = fractions * histogram.high
        high = highs[_errors(values, counts, low.expand_as(highs), highs).argmin()]
        lows = fractions * histogram.low
        low = lows[_errors(values, counts, lows, high.expand_as(lows)).argmin()]
    return low.item(), high.item()


def entropy(histogram: Histogram) -> Range:
    """Return ±T, cut to what was seen, with T by the Kullback-Leibler divergence as in TensorRT.

    Of 2048 bins of |x|, the first i are kept, i from 128 on in steps of 8: P has what lies beyond in its last bin, Q
    is P without that in 128 levels, each spread evenly over its bins that are not empty. T is the end of the i
    with the least KL(P ‖ Q) (Migacz 2017, "8-bit Inference with TensorRT", GTC).
    """
    bins, levels = _TENSORRT
    largest = max(-histogram.low, histogram.high)
    if largest == 0:
        return 0.0, 0.0
    place = (histogram.centers.abs() / largest * bins).long().clamp(max=bins - 1)
    counts = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, histogram.counts)
    kept = min(range(levels, bins + 1, _STRIDE), key=lambda kept: _divergence(counts, kept, levels))
    bound = largest * kept / bins
    return max(histogram.low, -bound), min(histogram.high, bound)


METHODS = {method.__name__: method for method in (mse, percentile, entropy, minmax)}


def step_and_zero_point(low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return the step () float32 and the zero point () uint8 of a range; step 1 where it is empty.

    `step = (high - low) / 255` and `zero_point = round(-low / step)`, so that 0 has a code of its own.
    """
    step = torch.tensor((high - low) / LEVELS or 1.0, dtype=torch.float32)
    zero_point = (-low / step.double()).round().clamp(0, LEVELS)
    return step, zero_point.to(torch.uint8)


def _errors(values: Tensor, counts: Tensor, lows: Tensor, highs: Tensor) -> Tensor:
    """Return the squared error (candidates,) of values (bins,) under each pair of bounds (candidates,)."""
    steps = ((highs - lows) / LEVELS).clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    zero_points = (-lows[:, None] / steps).round()
    codes = (values / steps).round_().add_(zero_points).clamp_(0, LEVELS)
    return codes.sub_(zero_points).mul_(steps).sub_(values).square_() @ counts


def _divergence(counts: Tensor, kept: int, levels: int) -> float:
    """Return KL(P ‖ Q) of the first `kept` bins, see `entropy`."""
    inside = counts[:kept]
    p = inside.clone()
    p[-1] += counts[kept:].sum()
    level = torch.arange(kept) * levels // kept
    filled = (p > 0).double()
    sums = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, inside)
    places = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, filled)
    q = filled * (sums / places.clamp_min(1))[level]
    p, q = p / p.sum(), q / q.sum()
    support = p > 0
    return float((p[support] * (p[support] / q[support].clamp_min(1e-12)).log()).sum())
