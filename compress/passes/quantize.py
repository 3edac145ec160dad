"""Store a model's matrices as int8, or in blocks of 8 or 4 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass
from compress.passes.recovery import recover
from compress.tasks import in_percent

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.calibration.examples import Calibration
    from compress.quantization.run import Scheme

_FEWEST = 16  # texts; what fewer show of a range is chance
_EPOCHS, _LEARNING_RATE = 1.0, 2e-5  # of qat; the model is trained already
_BITS, _BLOCK = {"weight8": 8, "weight4": 4}, 32
# The schemes that an option is for, where it is not for all.
_OPTIONS = {
    "calibration": ("static",),
    "smooth": ("dynamic", "static"),
    "max_drop": ("dynamic", "static"),
    "teacher": ("qat",),
    "epochs": ("qat",),
    "learning_rate": ("qat",),
    "block": ("weight8", "weight4"),
}


class Quantize(Pass):
    """Round the weights of linear layers and embeddings to int8, a quarter of their size, or to 4 bits.

    `dynamic` needs no data: activations are rounded as they come, by the range of each tensor. `static` fixes the
    range of each layer's input beforehand, by what `samples` training texts show: `calibration` says where it is
    cut. `qat` is `dynamic` after training with these roundings in place, on the labels and the soft targets of a
    teacher (Jacob et al. 2018). `weight8` and `weight4` round weights alone, in blocks with a scale each, and
    compute in float32: for language models, whose time goes into reading weights. With data, what rounding a
    weight does to a layer's output is made up for by the weights not rounded yet (Frantar et al. 2022). The task
    head's last layer stays float32.

    `smooth` moves outliers from activations into weights first, where the model stays the same function
    (SmoothQuant, Xiao et al. 2022). `max_drop` lets the layers that hurt most fall back, from static to dynamic
    int8 and from there to float32, until no more is lost on the validation split.

    Example:
        - {pass: quantize}
        - {pass: quantize, embeddings: false}
        - {pass: quantize, scheme: static, max_drop: 0.3}
        - {pass: quantize, scheme: qat, epochs: 1, teacher: "step:1"}
        - {pass: quantize, scheme: weight4, block: 64}
    """

    name: ClassVar[str] = "quantize"
    pass_: Literal["quantize"] = Field("quantize", alias="pass")
    scheme: Literal["dynamic", "static", "qat", "weight8", "weight4"] = Field(
        "dynamic", description="how weights and activations are rounded"
    )
    embeddings: bool = Field(True, description="whether embedding tables become int8 too")
    calibration: Literal["mse", "percentile", "entropy", "minmax"] | None = Field(
        None, description="for static: where the range of an activation is cut; left out: mse"
    )
    samples: PositiveInt = Field(256, description="training examples to look at; dynamic and qat need none")
    smooth: float | None = Field(
        None, ge=0, le=1, description="how much of the outliers moves into weights; 0.5 is usual"
    )
    max_drop: NonNegativeFloat | None = Field(
        None, description="points of the validation score that may be lost; layers fall back until then"
    )
    time_limit: PositiveFloat = Field(600, description="seconds that max_drop may search")
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

    def check(self, plan: ModelPlan) -> None:
        """Refuse a model that is quantized or exported already, missing data, and options of another scheme."""
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
        if plan.data is None and self.scheme == "static":
            plan.refuse(
                "scheme static needs data", "Give data, or scheme: dynamic, which looks at weights alone."
            )
        if plan.data is None and self.smooth is not None:
            plan.refuse("smooth needs data", "Give data, or leave smooth out.")
        if self.max_drop is not None and (plan.data is None or plan.task is None):
            plan.refuse(
                "max_drop needs data and a model with a trained head", "Give both, or leave max_drop out."
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
        model = artifact.model.to("cpu").float()  # type: ignore[arg-type]
        before = _bytes(model)
        tied = tied_weights(model)
        if self.scheme in _BITS:
            kind = self._round_weights(artifact, context)
        else:
            model = self._round_all(artifact, context)
            kind = _layers(model)
        sizes = f"{before / 1e6:.1f} MB to {_bytes(model) / 1e6:.1f} MB of weights"
        context.notes.append(f"{kind}; {sizes}")
        if tied:
            context.notes.append(f"left in float32, as modules share them: {', '.join(sorted(tied))}")
        if others := other_matrices(model):
            kinds = ", ".join(f"{kind} ({count:,} weights)" for kind, count in others.items())
            context.notes.append(f"left in float32, as no linear layer or table: {kinds}")
        # An ONNX file from before holds another model now.
        return artifact.evolve(model=model, attachments={})

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

    def _round_weights(self, artifact: Artifact, context: Context) -> str:
        """Round weights in blocks; return what became of how many."""
        from compress.quantization import quantize_weights

        batch = None
        if context.data is not None:
            artifact.model.to(context.device)  # type: ignore[arg-type]
            batch = self._examples(artifact, context).whole
        block = _BLOCK if self.block is None else self.block
        names = quantize_weights(artifact.model, _BITS[self.scheme], block, self.embeddings, batch)
        how = "to nearest, as there is no data" if batch is None else "compensated"
        return f"{_BITS[self.scheme]} bits in blocks of {block}, rounded {how}: {len(names)} matrices"

    def _round_all(self, artifact: Artifact, context: Context) -> PreTrainedModel:
        """Quantize weights and activations; return the model, another one where layers fell back."""
        model, examples = artifact.model, None
        if self.scheme == "static" or self.smooth is not None or self.max_drop is not None:
            examples = self._examples(artifact, context)
        if self.smooth is not None and examples is not None:
            self._smooth(model, examples, context)
        schemes = self._schemes(model, examples)
        if self.max_drop is None:
            schemes[0].quantize(model, ())
            return model
        assert examples is not None
        return self._within_budget(artifact, schemes, examples, context)

    def _examples(self, artifact: Artifact, context: Context) -> Calibration:
        from compress.calibration.examples import calibration

        assert context.data is not None
        examples = calibration(artifact, context.data, self.samples, context.seed, artifact.model.device.type)
        if examples.examples < _FEWEST:
            raise InputError(
                f"{examples.examples} texts are too few to calibrate on",
                place="quantize",
                remedy=f"Give at least {_FEWEST} training texts, and samples: {_FEWEST} or more.",
            )
        return examples

    def _smooth(self, model: PreTrainedModel, examples: Calibration, context: Context) -> None:
        from compress.quantization.smooth import smooth

        assert self.smooth is not None
        done = smooth(model, examples.inputs, self.smooth)
        parts = ", ".join(f"{count} × {kind}" for kind, count in sorted(done.items()))
        context.notes.append(f"smoothed (alpha {self.smooth:g}), folded into what comes before: {parts}")
        if not done["norm"]:
            context.notes.append(
                "no norm could be smoothed: other parts than linear layers read their output too, as the "
                "residual stream does where norms come after it"
            )

    def _schemes(self, model: PreTrainedModel, examples: Calibration | None) -> list[Scheme]:
        """Return the scheme that is asked for, then what may take its place."""
        from compress.quantization.ranges import METHODS
        from compress.quantization.run import dynamic, static
        from compress.quantization.static import calibrate

        schemes = [dynamic(model, self.embeddings)]
        if self.scheme == "static":
            assert examples is not None
            ranges = calibrate(model, examples.inputs, METHODS[self.calibration or "mse"])
            schemes.insert(0, static(ranges, self.embeddings))
        return schemes

    def _within_budget(
        self, artifact: Artifact, schemes: list[Scheme], examples: Calibration, context: Context
    ) -> PreTrainedModel:
        from compress.quantization.run import within_budget
        from compress.tasks.evaluate import evaluate

        assert context.data is not None
        assert self.max_drop is not None
        task = artifact.task
        dev = context.data.aligned(task).validation
        points = 1 if in_percent(task.main_metric) else 100

        def score(model: PreTrainedModel) -> float:
            found = evaluate(artifact.evolve(model=model), dev, "score of a candidate")
            return points * found[task.main_metric]

        outcome, notes = within_budget(
            artifact.model, schemes, examples.inputs, score, self.max_drop, self.time_limit
        )
        context.notes.extend(notes)
        if not outcome.met:
            context.unmet.append(f"{outcome.drop:.2f} points lost on dev, max_drop is {self.max_drop:g}")
        return outcome.model


def _with_language_head(artifact: Artifact, context: Context) -> Artifact:
    """Return the model that came in with the head that predicts tokens, where its folder holds one."""
    from compress.artifact import has_language_head, load, read_config

    folder = context.input_folder
    if folder is None or not has_language_head(read_config(folder)):
        return artifact
    return load(folder, language_model=True)


def _layers(model: nn.Module) -> str:
    """Say how many matrices of a model are int8."""
    from compress.layers import Int8Embedding, Int8Linear, StaticInt8Linear

    linear = [type(module) for module in model.modules() if isinstance(module, Int8Linear)]
    tables = sum(isinstance(module, Int8Embedding) for module in model.modules())
    fixed = linear.count(StaticInt8Linear)
    return f"int8: {len(linear) + tables} matrices" + (f", {fixed} of them static" if fixed else "")


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
