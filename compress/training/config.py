"""Options of every pass that trains."""

from __future__ import annotations

import importlib.util
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from compress.errors import InputError
from compress.passes.base import ModelPlan, Pass
from compress.training.adapters import Adapter
from compress.training.parameters import Part


class TrainingPass(Pass):
    """Options that `finetune` and `distill` share."""

    epochs: PositiveFloat = Field(3, description="passes over the training split")
    learning_rate: PositiveFloat = Field(5e-5, description="peak learning rate")
    batch_size: PositiveInt = Field(32, description="examples a step")
    accumulate: PositiveInt = Field(1, description="parts that a step's batch is computed in, to save memory")
    optimizer: Literal["adamw", "adafactor"] = Field(
        "adamw", description="adamw, or adafactor, which keeps less"
    )
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        "linear", description="how the learning rate falls after the warm-up"
    )
    clip: PositiveFloat = Field(1.0, description="longest gradient; longer ones are cut")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    label_smoothing: float = Field(
        0, ge=0, lt=1, description="share of a label's target that all classes have alike"
    )
    class_balance: float | None = Field(
        None,
        ge=0,
        le=1,
        description="weigh classes by the inverse of their effective number with this β; 1 is inverse frequency",
    )
    freeze: tuple[Part, ...] = Field((), description="layers that stay as they are, from 0, or embeddings")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of a layer as a share of the next one's"
    )
    adapter: Adapter | None = Field(
        None, description="train a peft adapter and merge it, {method: lora, r: 16}"
    )
    adversarial: float = Field(
        0, ge=0, description="move embeddings so far against the model and learn that too (FGM)"
    )
    r_drop: float = Field(
        0, ge=0, description="weight of the difference of two passes with other dropout (R-Drop)"
    )
    track: tuple[Literal["tensorboard", "wandb"], ...] = Field((), description="where losses are logged")
    patience: PositiveInt | None = Field(
        None, description="stop after so many epochs without a better dev score"
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout while training; left out: the model's own. 0 is a fifth faster"
    )
    bf16: bool | None = Field(
        None, description="bfloat16 matrix products; left out: where the processor is fast at it"
    )
    max_length: PositiveInt = Field(
        128, description="longest input in tokens, for a model that gets a new head"
    )

    def check_trainable(self, plan: ModelPlan) -> None:
        """Refuse what no training can follow: int8 weights, an exported file, no data."""
        if plan.exported:
            plan.refuse("a model cannot be trained after export", "Put export last.")
        elif plan.quantized:
            plan.refuse(
                "int8 weights cannot be trained", "Put quantize after finetune, distill, prune and factorize."
            )
        smoothed = self.label_smoothing or self.class_balance is not None
        if (
            smoothed
            and plan.task is not None
            and not (plan.task.rules.compared == "classes" and plan.task.labels)
        ):
            plan.refuse(
                f"label_smoothing and class_balance are for classes, the task is {plan.task.kind}",
                "Leave them out.",
            )
        self._check_moves(plan)
        if self.adapter is not None:
            from compress.training.adapters import peft_config

            try:
                peft_config(self.adapter)
            except InputError as error:
                plan.errors.append(f"{plan.place}: {error}")
        for package in self.track:
            if importlib.util.find_spec(package) is None:
                plan.refuse(f"{package} is not installed", f"Install it: pip install {package}.")
        if plan.data is None:
            plan.refuse("training needs data", "Add `data:` to the recipe or --data to the command.")

    def check_layers(self, plan: ModelPlan) -> None:
        """Refuse to freeze layers that the model which is trained has not, where its config is known."""
        from compress.architectures import layer_count_of

        numbers = [part for part in self.freeze if part != "embeddings"]
        if numbers and plan.config is not None and max(numbers) >= (count := layer_count_of(plan.config)):
            plan.refuse(
                f"freeze: there is no layer {max(numbers)}, the model has {count}",
                f"Give layers from 0 to {count - 1}, or embeddings.",
            )

    def _check_moves(self, plan: ModelPlan) -> None:
        """Refuse adversarial steps and second passes that would do nothing, or something else."""
        if self.adversarial and (self.adapter is not None or "embeddings" in self.freeze):
            plan.refuse(
                "adversarial moves the embeddings by their gradient, and they are frozen",
                "Leave out adversarial, or the adapter and `freeze: [embeddings]`.",
            )
        if self.adversarial and self.accumulate > 1:
            plan.refuse(
                "adversarial needs the gradient of the whole batch, and accumulate parts it",
                "Leave one of them out, or make batch_size smaller.",
            )
        if self.r_drop and self.dropout == 0:
            plan.refuse("r_drop compares two passes with other dropout, and dropout is 0", "Raise dropout.")
        if self.r_drop and plan.task is not None and plan.task.rules.compared in ("places", "cosines"):
            plan.refuse(
                f"r_drop compares classes, labels or numbers, the task is {plan.task.kind}", "Leave it out."
            )
