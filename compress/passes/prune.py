"""Take whole attention heads, feed-forward neurons and layers out of a model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from compress.architectures import family_of, ffn_widths, head_counts, layers_of
from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.pruning.criteria import Importance

# Fewer neurons than this share of what a layer has are never left: a feed-forward part that is all but gone
# cannot be trained back.
FFN_FLOOR = 1 / 16


class Prune(Pass):
    """Remove the least important heads and neurons of all layers together, and whole layers evenly.

    Layers are dropped first, then what is left is scored, then heads and neurons go; each layer keeps at
    least one head and 1/16 of its neurons. FFN widths come out as multiples of 8. The model answers a little
    worse until it is trained again: put `finetune`, or `distill` with `teacher: step:N`, after it.

    Criteria (`compress.pruning.criteria`): `fisher`, Kwon et al. 2022; `taylor`, Michel et al. 2019;
    `magnitude`, weights only; `random`, a control.

    Example:
        - {pass: prune, heads: 0.25, ffn: 0.5, criterion: fisher, samples: 512}
        - {pass: prune, layers: 3}
    """

    name: ClassVar[str] = "prune"
    pass_: Literal["prune"] = Field("prune", alias="pass")
    heads: float = Field(0, ge=0, lt=1, description="share of all attention heads to remove")
    ffn: float = Field(0, ge=0, lt=1, description="share of all feed-forward neurons to remove")
    layers: PositiveInt | None = Field(None, description="how many layers to keep")
    criterion: Literal["fisher", "taylor", "magnitude", "random"] = Field(
        "fisher", description="what makes a head or neuron important"
    )
    samples: PositiveInt = Field(512, description="training examples that fisher and taylor look at")

    @property
    def _scores_data(self) -> bool:
        return self.criterion in ("fisher", "taylor") and (self.heads > 0 or self.ffn > 0)

    def check(self, plan: ModelPlan) -> None:
        """Refuse a wrong order, missing data, what the family cannot do, and a pass that does nothing."""
        if plan.quantized or plan.exported:
            done = "an exported" if plan.exported else "a quantized"
            plan.refuse(f"{done} model cannot be pruned", "Put prune before quantize and export.")
        if not (self.heads or self.ffn or self.layers):
            plan.refuse(
                "nothing to prune", "Give heads, ffn (shares to remove) or layers (how many to keep)."
            )
        if self._scores_data and plan.data is None:
            plan.refuse(
                f"criterion {self.criterion} needs data",
                "Give data, or criterion: magnitude, which looks at weights alone.",
            )
        if self._scores_data and plan.task is None:
            plan.refuse(
                f"criterion {self.criterion} needs a model with a trained head",
                "Put finetune before it, or use criterion: magnitude.",
            )
        if plan.config is None:
            return
        try:
            family = family_of(plan.config)
        except InputError as error:
            plan.refuse(error.cause, error.remedy)
            return
        if self.heads and not family.prunable_heads:
            plan.refuse(
                f"heads of {plan.config.model_type} cannot be removed layer by layer: one position bias per "
                "head is shared among all layers",
                "Leave heads out; ffn and layers work.",
            )
        present = getattr(plan.config, family.layer_count)
        if self.layers is not None and self.layers >= present:
            plan.refuse(
                f"layers: {self.layers}, but the model has {present}", "Give a smaller number to keep."
            )
        elif self.layers is not None:
            plan.config = copy.deepcopy(plan.config)
            setattr(plan.config, family.layer_count, self.layers)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the pruned model; notes say what each layer is left with."""
        from compress.pruning.layers import evenly_spaced, keep_layers
        from compress.pruning.masks import choose
        from compress.pruning.surgery import keep_heads, keep_neurons

        model = artifact.model
        before = model.num_parameters()
        if self.layers is not None:
            kept = evenly_spaced(len(layers_of(model)), self.layers)
            keep_layers(model, kept)
            context.notes.append(f"layers kept (from 0): {' '.join(map(str, kept))}")
        if self.heads or self.ffn:
            scores = self._importance(artifact, context)
        if self.heads:
            for layer, heads in enumerate(choose(scores.heads, self.heads, [1] * len(scores.heads))):
                keep_heads(model, layer, heads)
            total, left = sum(map(len, scores.heads)), sum(head_counts(model))
            context.notes.append(f"heads left per layer: {' '.join(map(str, head_counts(model)))}")
            if total - left < round(self.heads * total):
                context.notes.append(
                    f"removed {total - left} of {total} heads, not {round(self.heads * total)}: "
                    "every layer keeps at least one"
                )
        if self.ffn:
            floors = [max(1, round(FFN_FLOOR * len(layer))) for layer in scores.neurons]
            for layer, neurons in enumerate(choose(scores.neurons, self.ffn, floors, multiple=8)):
                keep_neurons(model, layer, neurons)
            context.notes.append(f"FFN neurons left per layer: {' '.join(map(str, ffn_widths(model)))}")
        after = model.num_parameters()
        context.notes.append(f"parameters: {before:,} to {after:,} ({100 * after / before:.1f}%)")
        return artifact

    def _importance(self, artifact: Artifact, context: Context) -> Importance:
        from compress.pruning import criteria
        from compress.tasks.calibration import calibration_batches

        model = artifact.model
        if self.criterion == "magnitude":
            return criteria.magnitude(model)
        if self.criterion == "random":
            return criteria.random(model, context.seed)
        assert context.data is not None  # check() refused it otherwise
        model.to(context.device)  # type: ignore[arg-type]
        batches = calibration_batches(
            context.data.aligned(artifact.task).train,
            artifact.tokenizer,
            artifact.task,
            self.samples,
            context.seed,
            context.device,
        )
        score = criteria.fisher if self.criterion == "fisher" else criteria.taylor
        return score(model, batches, criteria.example_losses(artifact.task.kind))
