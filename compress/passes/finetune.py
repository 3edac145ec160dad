"""Fine-tune a model on labelled text."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.errors import CompressError
from compress.passes.base import Context, ModelPlan
from compress.tasks import Task
from compress.training.config import TrainingPass

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.data import TextData


class Finetune(TrainingPass):
    """Train on the labels; a model without a head for the task gets one.

    Example:
        - {pass: finetune, epochs: 3, learning_rate: 5.0e-5, max_length: 64}
    """

    name: ClassVar[str] = "finetune"
    pass_: Literal["finetune"] = Field("finetune", alias="pass")

    def check(self, plan: ModelPlan) -> None:
        """Refuse training after quantize or export, or without data."""
        if plan.data is not None and (plan.task is None or plan.task.gives_way(plan.data.kind)):
            plan.task = task_of(plan.data, self.max_length)
            check_head(plan)
        self.check_trainable(plan)
        self.check_layers(plan)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the artifact with trained weights and, where it had none, a head for the data's task."""
        from compress.artifact import load
        from compress.training.objective import label_objective
        from compress.training.run import train
        from compress.training.tokenized import training_examples

        data = context.data
        assert data is not None
        known = artifact.manifest.task
        if known is None or known.gives_way(data.kind):
            assert context.input_folder is not None
            artifact = load(context.input_folder, task_of(data, self.max_length))
            if artifact.task.max_length < self.max_length:
                context.notes.append(
                    f"max_length {artifact.task.max_length}: the model has no more positions"
                )
        tokenizer, task = artifact.tokenizer, artifact.task
        examples = training_examples(data, tokenizer, task)
        dev = task.encode(data.validation, tokenizer)
        objective = label_objective(task, self, examples.labels)
        train(artifact, examples, dev, objective, self, context, title="fine-tune")
        return artifact


def check_head(plan: ModelPlan) -> None:
    """Refuse a model whose family has no head for the plan's task."""
    from compress.artifact import require_head

    if plan.config is not None and plan.task is not None:
        try:
            require_head(plan.config, plan.task, "model")
        except CompressError as error:
            plan.errors.append(f"{plan.place}: {error}")


def task_of(data: TextData, max_length: int) -> Task:
    """Return the task that the data poses."""
    return Task(kind=data.kind, labels=data.labels, pair=data.pair, max_length=max_length)
