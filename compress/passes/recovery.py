"""A short training after a pass that changed a model's structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.passes.base import Context, ModelPlan

if TYPE_CHECKING:
    from compress.artifact import Artifact


def check_recovery(epochs: float | None, plan: ModelPlan) -> None:
    """Refuse recovery where there is no data or no head to train."""
    if epochs is not None and (plan.data is None or plan.task is None):
        plan.refuse("recover needs data and a model with a trained head", "Give both, or leave recover out.")


def recover(
    artifact: Artifact,
    context: Context,
    epochs: float,
    learning_rate: float = 1e-4,
    teacher: str | None = None,
) -> Artifact:
    """Distil the model that came into the pass, or another teacher, into what the pass made of it.

    The labels weigh 0.3, the soft targets of temperature 2 weigh 0.7.

    Args:
        artifact: what the pass made; it is trained in place and returned.
        context: of the pass; its working folder keeps the checkpoints.
        epochs: over the training split.
        learning_rate: peak of the schedule.
        teacher: as in `Distill`; None for the model that came in.
    """
    from compress.passes.distill import Distill

    recovery = Distill(
        teacher=teacher or str(context.input_folder),
        epochs=epochs,
        learning_rate=learning_rate,
        kd_weight=0.7,
        dropout=0,
    )
    return recovery.apply(artifact, context)
