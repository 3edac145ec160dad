"""Options of every pass that trains."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from compress.passes.base import ModelPlan, Pass


class TrainingPass(Pass):
    """Options that `finetune` and `distill` share. Training uses AdamW with a linear schedule."""

    epochs: PositiveFloat = Field(3, description="passes over the training split")
    learning_rate: PositiveFloat = Field(5e-5, description="peak learning rate of AdamW")
    batch_size: PositiveInt = Field(32, description="examples a step")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay")
    label_smoothing: float = Field(
        0, ge=0, lt=1, description="share of a label's target that all classes have alike"
    )
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
        if plan.data is None:
            plan.refuse("training needs data", "Add `data:` to the recipe or --data to the command.")
