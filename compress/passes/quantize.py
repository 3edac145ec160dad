"""Store a model's matrices as int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.passes.base import Context, ModelPlan, Pass

if TYPE_CHECKING:
    from torch import nn

    from compress.artifact import Artifact


class Quantize(Pass):
    """Round the weights of linear layers and embeddings to int8, a quarter of their size.

    `dynamic` needs no data: activations are rounded as they come, by the range of each tensor. The task head's
    last layer stays float32.

    Example:
        - {pass: quantize}
        - {pass: quantize, embeddings: false}
    """

    name: ClassVar[str] = "quantize"
    pass_: Literal["quantize"] = Field("quantize", alias="pass")
    scheme: Literal["dynamic"] = Field("dynamic", description="how activations are rounded")
    embeddings: bool = Field(True, description="whether embedding tables become int8 too")

    def check(self, plan: ModelPlan) -> None:
        """Refuse a model that is int8 or exported already."""
        if plan.exported:
            plan.refuse("an exported model cannot be quantized", "Put quantize before export.")
        elif plan.quantized:
            plan.refuse("the model is quantized already", "Drop this pass.")
        plan.quantized = True

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the int8 model; notes say how many matrices changed, what that saved and what stayed."""
        from compress.quantization import other_matrices, quantize_model, tied_weights

        model = artifact.model.to("cpu")  # type: ignore[arg-type]
        before = _bytes(model)
        tied = tied_weights(model)
        names = quantize_model(model, embeddings=self.embeddings)
        after = _bytes(model)
        context.notes.append(
            f"int8: {len(names)} matrices; {before / 1e6:.1f} MB to {after / 1e6:.1f} MB of weights"
        )
        if tied:
            context.notes.append(f"left in float32, as modules share them: {', '.join(sorted(tied))}")
        if others := other_matrices(model):
            kinds = ", ".join(f"{kind} ({count:,} weights)" for kind, count in others.items())
            context.notes.append(f"left in float32, as no linear layer or table: {kinds}")
        # An ONNX file from before holds another model now.
        return artifact.evolve(attachments={})


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
