"""The distance of two models' states, through a learned projection where their widths differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compress.distillation.objectives.loss import InsideLoss

_RIDGE = 1e-3  # of the mean square, so that few tokens do not make the first projection wild


class ProjectedStates(InsideLoss):
    """Squared error of projected states, as a share of the teacher's own variance.

    For each pair, over the tokens t that are no padding

        loss = mean over t of ‖W s_t + b − h_t‖² / v

    with h the teacher's states (width H), s the student's (width D), and W (H × D) and b learned (Jiao et al. 2020,
    equations 8 and 9); where the widths are alike W is the identity and b is 0. v is the mean of ‖h − h̄‖² over the
    tokens that `fit` saw, h̄ their mean, 1 before it: it makes about 1 of a student that knows nothing, whatever the
    family's scale, and is the same for all batches, so that the parts of one add up. The loss is the mean over the
    pairs.

    Args:
        teacher: width of each teacher signal.
        student: width of each student signal.
    """

    variances: Tensor

    def __init__(self, teacher: Sequence[int], student: Sequence[int]) -> None:
        super().__init__()
        self.projections = projections(teacher, student)
        self.register_buffer("variances", torch.ones(len(teacher)), persistent=False)  # v of each pair

    def forward(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> Tensor:
        """Return the scalar loss of states (B, T, H) and (B, T, D) where `mask` (B, T) is true."""
        errors = []
        for h, s, project in zip(teacher, student, self.projections, strict=True):
            error = project(s.float()[mask]) - h.detach().float()[mask]
            errors.append(error.square().sum() / mask.sum().clamp(min=1))
        return (torch.stack(errors) / self.variances).mean()

    def fit(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> None:
        """Take v from these tokens, and begin with the projections that fit them best."""
        wanted = [h.float()[mask] for h in teacher]
        variances = [(each - each.mean(0)).square().sum(-1).mean() for each in wanted]
        self.variances = torch.stack(variances).clamp(min=1e-12)
        fit(self.projections, wanted, [s[mask] for s in student])


def projections(teacher: Sequence[int], student: Sequence[int]) -> nn.ModuleList:
    """Return a linear map from each student's width to its teacher's; the identity where they are alike."""
    return nn.ModuleList(
        nn.Identity() if wide == narrow else nn.Linear(narrow, wide)
        for wide, narrow in zip(teacher, student, strict=True)
    )


@torch.no_grad()
def fit(maps: nn.ModuleList, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> None:
    """Set linear maps to the ridge regression of teacher rows (N, H) on student rows (N, D).

    A random projection costs the student its first epoch: at a fine-tuning learning rate it hardly moves.
    """
    for wanted, given, linear in zip(teacher, student, maps, strict=True):
        if not isinstance(linear, nn.Linear):
            continue
        y, x = wanted.double(), given.double()
        centred = x - x.mean(0)
        gram = centred.T @ centred
        gram += torch.eye(len(gram)).to(gram) * (_RIDGE * gram.diagonal().mean() + 1e-12)
        weight = torch.linalg.solve(gram, centred.T @ (y - y.mean(0))).T
        linear.weight.copy_(weight)
        linear.bias.copy_(y.mean(0) - weight @ x.mean(0))
