"""Two passes with different dropout should say the same."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import kl_div


def symmetric_divergence(one: Tensor, other: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return ½ (KL(p ‖ q) + KL(q ‖ p)), the mean over rows (Liang et al. 2021, R-Drop, equation 2).

    Where there is one number, as in regression, it is their squared difference.

    Args:
        one: logits of p, (B, L), or (B, T, L) for tokens.
        other: logits of q.
        mask: (B, T) bool, which tokens count.
    """
    if mask is not None:
        one, other = one[mask], other[mask]
    if one.shape[-1] == 1:
        return (one - other).square().mean()
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    forwards = kl_div(q, p, reduction="none", log_target=True)
    backwards = kl_div(p, q, reduction="none", log_target=True)
    return (forwards + backwards).sum(-1).mean() / 2
