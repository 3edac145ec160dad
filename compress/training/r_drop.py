"""Two passes with different dropout should say the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div


def symmetric_divergence(
    one: Tensor, other: Tensor, mask: Tensor | None = None, labels: bool = False
) -> Tensor:
    """Return ½ (KL(p ‖ q) + KL(q ‖ p)), the mean over rows (Liang et al. 2021, R-Drop, equation 2).

    Where there is one number, as in regression, it is their squared difference. Labels that may hold together are a yes
    or no each, and the mean is over rows and labels.

    Args:
        one: logits of p, (B, L), or (B, T, L) for tokens.
        other: logits of q.
        mask: (B, T) bool, which tokens count.
        labels: whether the L logits are of labels that may hold together.
    """
    if mask is not None:
        one, other = one[mask], other[mask]
    if labels:
        # The softmax over z and 0 is the sigmoid of z.
        one, other = (torch.stack([each, torch.zeros_like(each)], -1).flatten(0, -2) for each in (one, other))
    if one.shape[-1] == 1:
        return (one - other).square().mean()
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    forwards = kl_div(q, p, reduction="none", log_target=True)
    backwards = kl_div(p, q, reduction="none", log_target=True)
    return (forwards + backwards).sum(-1).mean() / 2
