"""The student's logits made like the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def soft_target_divergence(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(p_teacher ‖ p_student), the mean over rows (Hinton, Vinyals, Dean 2015, section 2).

    `p = softmax(logits / T)` and `KL = Σ_classes p_teacher · (log p_teacher − log p_student)`. T² keeps the
    gradients' size independent of T.

    Args:
        logits: the student's, (N, L) float32.
        teacher_logits: (N, L) float32; no gradient reaches them.
        temperature: T > 0.
    """
    student = torch.log_softmax(logits / temperature, -1)
    teacher = torch.log_softmax(teacher_logits.detach() / temperature, -1)
    divergence = nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return temperature * temperature * divergence


def binary_divergence(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T² times the mean over rows and labels of the divergence of yes and no, for labels that may hold together.

    With `p = sigmoid(logits / T)` for each label: p_t log(p_t / p_s) + (1 − p_t) log((1 − p_t) / (1 − p_s)).

    Args:
        logits: the student's, (N, L) float32.
        teacher_logits: (N, L) float32; no gradient reaches them.
        temperature: T > 0.
    """
    wanted, given = teacher_logits.detach() / temperature, logits / temperature
    cross = nn.functional.binary_cross_entropy_with_logits(given, torch.sigmoid(wanted))
    entropy = nn.functional.binary_cross_entropy_with_logits(wanted, torch.sigmoid(wanted))
    return temperature * temperature * (cross - entropy)


def logit_error(logits: Tensor, teacher_logits: Tensor, centred: bool) -> Tensor:
    """Return the mean squared error of logits (Ba & Caruana 2014, section 2.2).

    Args:
        logits: the student's, (N, L) float32.
        teacher_logits: (N, L) float32; no gradient reaches them.
        centred: whether the mean of each row is left aside, which a softmax over classes does not see; single numbers
            and the sigmoids of labels do.
    """
    wanted = teacher_logits.detach()
    if centred:
        logits, wanted = logits - logits.mean(-1, keepdim=True), wanted - wanted.mean(-1, keepdim=True)
    return nn.functional.mse_loss(logits, wanted)


def similarity_error(embeddings: Tensor, teacher_embeddings: Tensor, paired: bool = False) -> Tensor:
    """Return the mean squared error of the cosines between all sentences of a batch.

    Widths may differ; what is kept is which sentences are near one another (Tung & Mori 2019, section 3.2). The error
    of pairs is added to it: among the N² cosines of a batch, most of sentences that have nothing in common, the N / 2
    that the task is about would hardly count.

    Args:
        embeddings: the student's, (N, D) float32.
        teacher_embeddings: (N, H) float32; no gradient reaches them.
        paired: whether sentences 2i and 2i + 1 are a pair.
    """
    given, wanted = (
        nn.functional.normalize(each, dim=-1) for each in (embeddings, teacher_embeddings.detach())
    )
    error = nn.functional.mse_loss(given @ given.T, wanted @ wanted.T)
    if not paired:
        return error
    said, true = ((each[0::2] * each[1::2]).sum(-1) for each in (given, wanted))
    return error + nn.functional.mse_loss(said, true)
