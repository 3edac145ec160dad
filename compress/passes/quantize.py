"""Store a model's matrices as int8, or in blocks of 8 or 4 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from compress.passes.base import Context, ModelPlan, Pass
from compress.passes.recovery import recover

if TYPE_CHECKING:
    from torch import nn

    from compress.artifact import Artifact

_EPOCHS, _LEARNING_RATE = 1.0, 2e-5  # of qat; the model is trained already
_BITS, _BLOCK = {"weight8": 8, "weight4": 4}, 32
_OPTIONS = {
    "teacher": ("qat",),
    "epochs": ("qat",),
    "learning_rate": ("qat",),
    "block": ("weight8", "weight4"),
}


class Quantize(Pass):
    """Round the weights of linear layers and embeddings to int8, a quarter of their size, or to 4 bits.

    `dynamic` needs no data: activations are rounded as they come, by the range of each tensor. `qat` is the same
    after training with these roundings in place, on the labels and the soft targets of a teacher (Jacob et al.
    2018). `weight8` and `weight4` round weights alone, in blocks with a scale each, and compute in float32: for
    language models, whose time goes into reading weights. With data, what rounding a weight does to a layer's
    output is made up for by the weights not rounded yet (Frantar et al. 2022). The task head's last layer stays
    float32.

    Example:
        - {pass: quantize}
        - {pass: quantize, embeddings: false}
        - {pass: quantize, scheme: qat, epochs: 1, teacher: "step:1"}
        - {pass: quantize, scheme: weight4, block: 64}
    """

    name: ClassVar[str] = "quantize"
    pass_: Literal["quantize"] = Field("quantize", alias="pass")
    scheme: Literal["dynamic", "qat", "weight8", "weight4"] = Field(
        "dynamic", description="how weights and activations are rounded"
    )
    embeddings: bool = Field(True, description="whether embedding tables become int8 too")
    teacher: str | None = Field(
        None, description="for qat: a model's name, or step:N; left out: the model that comes in"
    )
    epochs: PositiveFloat | None = Field(
        None, description="for qat: passes over the training split; left out: 1"
    )
    learning_rate: PositiveFloat | None = Field(
        None, description="for qat: peak learning rate; left out: 2e-5"
    )
    block: Literal[16, 32, 64, 128, 256] | None = Field(
        None, description="for weight8 and weight4: inputs that share a scale; left out: 32"
    )
    samples: PositiveInt = Field(256, description="training examples to look at, for weight8 and weight4")

    def check(self, plan: ModelPlan) -> None:
        """Refuse a model that is quantized or exported already, and options of another scheme."""
        if plan.exported:
            plan.refuse("an exported model cannot be quantized", "Put quantize before export.")
        elif plan.quantized:
            plan.refuse("the model is quantized already", "Drop this pass.")
        elif self.scheme == "qat":
            self._check_training(plan)
        for option, schemes in _OPTIONS.items():
            if getattr(self, option) is not None and self.scheme not in schemes:
                plan.refuse(
                    f"{option} has no meaning for scheme: {self.scheme}",
                    f"Leave it out, or give scheme: {' or '.join(schemes)}.",
                )
        plan.quantized = True

    def _check_training(self, plan: ModelPlan) -> None:
        from compress.passes.distill import Distill

        if plan.data is None or plan.task is None:
            plan.refuse(
                "scheme qat needs data and a model with a trained head", "Give both, or scheme: dynamic."
            )
        elif self.teacher is not None:
            Distill(teacher=self.teacher).check(plan)

    def model_names(self) -> tuple[str, ...]:
        """Return the teacher that is given by a model's name."""
        return () if self.teacher is None or self.teacher.startswith("step:") else (self.teacher,)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the quantized model; notes say how many matrices changed, what that saved and what stayed."""
        from compress.quantization import other_matrices, tied_weights

        if self.scheme == "qat":
            artifact = self._train(artifact, context)
        elif artifact.manifest.task is None:
            artifact = _with_language_head(artifact, context)
        model = artifact.model
        before = _bytes(model)
        tied = tied_weights(model)
        kind, names = self._quantize(artifact, context)
        after = _bytes(model)
        context.notes.append(
            f"{kind}: {len(names)} matrices; {before / 1e6:.1f} MB to {after / 1e6:.1f} MB of weights"
        )
        if tied:
            context.notes.append(f"left in float32, as modules share them: {', '.join(sorted(tied))}")
        if others := other_matrices(model):
            kinds = ", ".join(f"{kind} ({count:,} weights)" for kind, count in others.items())
            context.notes.append(f"left in float32, as no linear layer or table: {kinds}")
        # An ONNX file from before holds another model now.
        return artifact.evolve(attachments={})

    def _quantize(self, artifact: Artifact, context: Context) -> tuple[str, list[str]]:
        """Quantize the model in place; say what its linear layers are now, and the names of what changed."""
        from compress.quantization import quantize_model, quantize_weights

        if self.scheme not in _BITS:
            model = artifact.model.to("cpu")  # type: ignore[arg-type]
            return "int8", quantize_model(model, embeddings=self.embeddings)
        bits, block = _BITS[self.scheme], self.block or _BLOCK
        batch = None
        if context.data is not None:
            from compress.calibration.examples import calibration

            artifact.model.to(context.device)  # type: ignore[arg-type]
            batch = calibration(artifact, context.data, self.samples, context.seed, context.device).whole
        names = quantize_weights(artifact.model, bits, block, self.embeddings, batch)
        how = "compensated" if batch is not None else "to nearest, as there is no data"
        return f"{bits} bits in blocks of {block}, rounded {how}", names

    def _train(self, artifact: Artifact, context: Context) -> Artifact:
        from compress.quantization.qat import fake_quantized

        with fake_quantized(artifact.model, self.embeddings):
            return recover(
                artifact,
                context,
                _EPOCHS if self.epochs is None else self.epochs,
                _LEARNING_RATE if self.learning_rate is None else self.learning_rate,
                self.teacher,
            )


def _with_language_head(artifact: Artifact, context: Context) -> Artifact:
    """Return the model that came in with the head that predicts tokens, where its folder holds one."""
    from compress.artifact import has_language_head, load, read_config

    folder = context.input_folder
    if folder is None or not has_language_head(read_config(folder)):
        return artifact
    return load(folder, language_model=True)


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
