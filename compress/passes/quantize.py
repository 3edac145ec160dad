"""Store a model's matrices as int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.quantization.run import Scheme

_FEWEST = 16  # texts; what fewer show of a range is chance


class Quantize(Pass):
    """Round the weights of linear layers and embeddings to int8, a quarter of their size.

    `dynamic` needs no data: activations are rounded as they come, by the range of each tensor. `static` fixes the
    range of each layer's input beforehand, by what `samples` training texts show: `calibration` says where it is
    cut. The task head's last layer stays float32.

    `smooth` moves outliers from activations into weights first, where the model stays the same function
    (SmoothQuant, Xiao et al. 2022). `max_drop` lets the layers that hurt most fall back, from static to dynamic
    int8 and from there to float32, until no more is lost on the validation split.

    Example:
        - {pass: quantize}
        - {pass: quantize, embeddings: false}
        - {pass: quantize, scheme: static, max_drop: 0.3}
    """

    name: ClassVar[str] = "quantize"
    pass_: Literal["quantize"] = Field("quantize", alias="pass")
    scheme: Literal["dynamic", "static"] = Field("dynamic", description="how activations are rounded")
    embeddings: bool = Field(True, description="whether embedding tables become int8 too")
    calibration: Literal["mse", "percentile", "entropy", "minmax"] = Field(
        "mse", description="where static cuts the range of an activation"
    )
    samples: PositiveInt = Field(256, description="training examples to look at")
    smooth: float | None = Field(
        None, ge=0, le=1, description="how much of the outliers moves into weights; 0.5 is usual"
    )
    max_drop: NonNegativeFloat | None = Field(
        None, description="points of the validation score that may be lost; layers fall back until then"
    )
    time_limit: PositiveFloat = Field(600, description="seconds that max_drop may search")

    def check(self, plan: ModelPlan) -> None:
        """Refuse a model that is int8 or exported already, and missing data."""
        if plan.exported:
            plan.refuse("an exported model cannot be quantized", "Put quantize before export.")
        elif plan.quantized:
            plan.refuse("the model is quantized already", "Drop this pass.")
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

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the int8 model; notes say how many matrices changed, what that saved and what stayed."""
        from compress.quantization import other_matrices, tied_weights

        model = artifact.model.to("cpu")  # type: ignore[arg-type]
        before = _bytes(model)
        model.float()
        tied = tied_weights(model)
        batches = self._batches(artifact, context)
        if self.smooth is not None:
            self._smooth(model, batches, context)
        schemes = self._schemes(model, batches)
        if self.max_drop is None:
            schemes[0].quantize(model, ())
        else:
            model = self._within_budget(artifact, schemes, batches, context)
        context.notes.append(_layers(model, before))
        if tied:
            context.notes.append(f"left in float32, as modules share them: {', '.join(sorted(tied))}")
        if others := other_matrices(model):
            kinds = ", ".join(f"{kind} ({count:,} weights)" for kind, count in others.items())
            context.notes.append(f"left in float32, as no linear layer or table: {kinds}")
        # An ONNX file from before holds another model now.
        return artifact.evolve(model=model, attachments={})

    def _batches(self, artifact: Artifact, context: Context) -> list[dict[str, Tensor]]:
        """Return calibration texts, none where no option asks for them."""
        from compress.calibration.examples import calibration

        if self.scheme == "dynamic" and self.smooth is None and self.max_drop is None:
            return []
        assert context.data is not None
        examples = calibration(artifact, context.data, self.samples, context.seed)
        if examples.examples < _FEWEST:
            raise InputError(
                f"{examples.examples} texts are too few to calibrate on",
                place="quantize",
                remedy=f"Give at least {_FEWEST} training texts, and samples: {_FEWEST} or more.",
            )
        return examples.inputs

    def _smooth(self, model: PreTrainedModel, batches: list[dict[str, Tensor]], context: Context) -> None:
        from compress.quantization.smooth import smooth

        assert self.smooth is not None
        done = smooth(model, batches, self.smooth)
        parts = ", ".join(f"{count} × {kind}" for kind, count in sorted(done.items()))
        context.notes.append(f"smoothed (alpha {self.smooth:g}), folded into what comes before: {parts}")
        if not done["norm"]:
            context.notes.append(
                "no norm could be smoothed: other parts than linear layers read their output too, as the "
                "residual stream does where norms come after it"
            )

    def _schemes(self, model: PreTrainedModel, batches: list[dict[str, Tensor]]) -> list[Scheme]:
        """Return the scheme that is asked for, then what may take its place."""
        from compress.quantization.ranges import METHODS
        from compress.quantization.run import dynamic, static
        from compress.quantization.static import calibrate

        schemes = [dynamic(model, self.embeddings)]
        if self.scheme == "static":
            ranges = calibrate(model, batches, METHODS[self.calibration])
            schemes.insert(0, static(ranges, self.embeddings))
        return schemes

    def _within_budget(
        self,
        artifact: Artifact,
        schemes: list[Scheme],
        batches: list[dict[str, Tensor]],
        context: Context,
    ) -> PreTrainedModel:
        from compress.quantization.run import within_budget
        from compress.tasks.evaluate import evaluate

        assert context.data is not None
        assert self.max_drop is not None
        task = artifact.task
        dev = context.data.aligned(task).validation
        # A correlation counts in hundredths, as accuracy does.
        points = 1 if task.kind == "classification" else 100

        def score(model: PreTrainedModel) -> float:
            found = evaluate(artifact.evolve(model=model), dev, "score of a candidate")
            return points * found[task.main_metric]

        outcome, notes = within_budget(
            artifact.model, schemes, batches, score, self.max_drop, self.time_limit
        )
        context.notes.extend(notes)
        if not outcome.met:
            context.unmet.append(f"{outcome.drop:.2f} points lost on dev, max_drop is {self.max_drop:g}")
        return outcome.model


def _layers(model: nn.Module, before: int) -> str:
    from compress.layers import Int8Embedding, Int8Linear, StaticInt8Linear

    linear = [type(module) for module in model.modules() if isinstance(module, Int8Linear)]
    tables = sum(isinstance(module, Int8Embedding) for module in model.modules())
    fixed = linear.count(StaticInt8Linear)
    static = f", {fixed} of them static" if fixed else ""
    sizes = f"{before / 1e6:.1f} MB to {_bytes(model) / 1e6:.1f} MB of weights"
    return f"int8: {len(linear) + tables} matrices{static}; {sizes}"


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
