"""Take attention heads, feed-forward neurons and whole layers out of a model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass
from compress.passes.recovery import check_recovery, recover

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.calibration.examples import Calibration

_NEEDS_DATA = ("obs", "fisher", "taylor", "activation")
_NEEDS_LABELS = ("fisher", "taylor")


class Prune(Pass):
    """Remove the heads and neurons that the model's answer misses least, and whole layers.

    How much: `sparsity`, `flops` and `target_speedup` cut heads and neurons together, each where it costs the
    answer least; `heads` and `ffn` give each kind its own share. Layers are dropped first. Every attention keeps
    at least one head and every feed-forward part 1/16 of its neurons, in multiples of 8.

    Which: `obs`, the optimal brain surgeon (ZipLM, Kurtic et al. 2023) weighed by what reaches the model's
    answer, no labels needed; `fisher`, Kwon et al. 2022; `taylor`, Michel et al. 2019; `activation`, Wanda (Sun
    et al. 2023); `magnitude`, weights only; `random`, a control. With data the weights that stay are then solved
    anew by least squares, so that the model answers as before without training; `recover` trains it as well.

    Example:
        - {pass: prune, sparsity: 0.5}
        - {pass: prune, target_speedup: 2, recover: 1}
        - {pass: prune, heads: 0.25, ffn: 0.5, criterion: magnitude, reconstruct: false}
        - {pass: prune, layers: 3, choose_layers: effect}
    """

    name: ClassVar[str] = "prune"
    pass_: Literal["prune"] = Field("prune", alias="pass")
    sparsity: float = Field(0, ge=0, lt=1, description="share of all head and FFN weights to remove")
    flops: float = Field(0, ge=0, lt=1, description="share of the layers' operations to remove")
    target_speedup: float | None = Field(
        None, gt=1, description="how many times faster the exported model is to be, here at batch 1"
    )
    sequence_length: PositiveInt = Field(128, description="tokens a text, for flops and target_speedup")
    heads: float = Field(0, ge=0, lt=1, description="share of all attention heads to remove")
    ffn: float = Field(0, ge=0, lt=1, description="share of all feed-forward neurons to remove")
    layers: PositiveInt | None = Field(None, description="how many layers to keep")
    choose_layers: Literal["even", "effect"] = Field(
        "even", description="which layers stay: evenly spaced, or those whose loss is felt"
    )
    hidden: PositiveInt | None = Field(None, description="hidden width to keep, a multiple of 8")
    criterion: Literal["obs", "fisher", "taylor", "activation", "magnitude", "random"] = Field(
        "obs", description="what makes a head or neuron important"
    )
    scope: Literal["global", "local"] = Field(
        "global", description="compare units of all layers, or take the same share from each"
    )
    reconstruct: bool = Field(True, description="solve the weights that stay anew, with the data's texts")
    steps: PositiveInt = Field(1, description="prune a little at a time, so often")
    samples: PositiveInt = Field(256, description="training examples to look at")
    recover: PositiveFloat | None = Field(
        None, description="epochs of training on the labels and on the answers of the model as it came in"
    )

    @property
    def _cuts_units(self) -> bool:
        return bool(self.sparsity or self.flops or self.target_speedup or self.heads or self.ffn)

    def check(self, plan: ModelPlan) -> None:
        """Refuse a wrong order, missing data, two budgets at once, and a pass that does nothing."""
        if plan.quantized or plan.exported:
            done = "an exported" if plan.exported else "a quantized"
            plan.refuse(f"{done} model cannot be pruned", "Put prune before quantize and export.")
        if not (self._cuts_units or self.layers or self.hidden):
            plan.refuse(
                "nothing to prune",
                "Give sparsity or target_speedup, heads or ffn (shares to remove), layers or hidden (how many "
                "to keep).",
            )
        budgets = [name for name in ("sparsity", "flops", "target_speedup") if getattr(self, name)]
        if self.heads or self.ffn:
            budgets.append("heads and ffn")
        if len(budgets) > 1:
            plan.refuse(f"{' and '.join(budgets)} at once", "Give one of them: each says how much goes.")
        if self.target_speedup and self.scope == "local":
            plan.refuse("target_speedup with scope: local", "Leave scope out: time is saved where it can be.")
        self._check_data(plan)
        check_recovery(self.recover, plan)
        if self.layers is not None and plan.config is not None:
            self._check_layers(plan)

    def _check_data(self, plan: ModelPlan) -> None:
        criterion = self.criterion in _NEEDS_DATA and self._cuts_units
        if criterion and plan.data is None:
            plan.refuse(
                f"criterion {self.criterion} needs data",
                "Give data, or criterion: magnitude, which looks at weights alone.",
            )
        if criterion and self.criterion in _NEEDS_LABELS and plan.task and plan.task.kind == "embedding":
            plan.refuse(
                f"criterion {self.criterion} needs the loss of single texts, an embedding's is one of pairs",
                "Use criterion: obs, activation or magnitude.",
            )
        if criterion and self.criterion in _NEEDS_LABELS and plan.task is None:
            plan.refuse(
                f"criterion {self.criterion} needs a model with a trained head",
                "Put finetune before it, or use criterion: obs or magnitude.",
            )
        if self.layers and self.choose_layers == "effect" and (plan.data is None or plan.task is None):
            plan.refuse(
                "choose_layers: effect needs data and a model with a trained head",
                "Give both, or choose_layers: even.",
            )

    def _check_layers(self, plan: ModelPlan) -> None:
        from compress.architectures import layer_count_of, set_layer_count

        assert plan.config is not None
        assert self.layers is not None
        config = copy.deepcopy(plan.config)
        try:
            present = layer_count_of(config)
            set_layer_count(config, self.layers)
        except InputError as error:
            plan.refuse(error.cause, error.remedy)
            return
        if self.layers >= present:
            plan.refuse(
                f"layers: {self.layers}, but the model has {present}", "Give a smaller number to keep."
            )
            return
        plan.config = config

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the pruned model; notes say what each layer is left with."""
        before = artifact.model.num_parameters()
        artifact.model.to(context.device)  # type: ignore[arg-type]
        examples = self._calibration(artifact, context)
        if self.layers is not None:
            self._drop_layers(artifact, examples, context)
        if self.hidden is not None:
            self._narrow(artifact, examples, context)
        if self._cuts_units:
            self._cut_units(artifact, examples, context)
        after = artifact.model.num_parameters()
        context.notes.append(f"parameters: {before:,} to {after:,} ({100 * after / before:.1f}%)")
        return artifact if self.recover is None else recover(artifact, context, self.recover)

    def _drop_layers(self, artifact: Artifact, examples: Calibration | None, context: Context) -> None:
        from compress.architectures import layer_count_of
        from compress.pruning.layer_effect import drop_by_effect
        from compress.pruning.layers import evenly_spaced, keep_layers

        assert self.layers is not None
        model = artifact.model
        if self.choose_layers == "effect":
            assert examples is not None
            kept = drop_by_effect(model, self.layers, examples.inputs)
        else:
            kept = evenly_spaced(layer_count_of(model.config), self.layers)
            keep_layers(model, kept)
        context.notes.append(f"layers kept (from 0): {' '.join(map(str, kept))}")

    def _narrow(self, artifact: Artifact, examples: Calibration | None, context: Context) -> None:
        from compress.pruning.hidden import channel_effects, prune_hidden

        assert self.hidden is not None
        if examples is None:  # weights alone say little here: no better than chance
            encoded = artifact.tokenizer(["a", "b"], return_tensors="pt").to(context.device)
            prune_hidden(artifact.model, self.hidden, dict(encoded))
        else:
            scores = channel_effects(artifact.model, examples.inputs)
            prune_hidden(artifact.model, self.hidden, examples.inputs[0], scores)
        context.notes.append(f"hidden width: {self.hidden}")

    def _cut_units(self, artifact: Artifact, examples: Calibration | None, context: Context) -> None:
        from compress.pruning.parts import attentions_of, feed_forwards_of, parts_of, total_parameters
        from compress.pruning.run import Budget, prune_units

        model = artifact.model
        weights = total_parameters(model, parts_of(model))
        budget = Budget(self.sparsity, self.flops, self.heads, self.ffn, self.scope, self.sequence_length)
        if self.target_speedup is not None:
            from compress.pruning.latency import measure_latency

            table = measure_latency(artifact, 1, self.sequence_length)
            milliseconds = table.total(model)
            budget = Budget(latency=table, milliseconds=milliseconds / self.target_speedup)
        prune_units(
            artifact,
            examples,
            self.criterion,
            budget,
            steps=self.steps,
            rebuild=self.reconstruct,
            seed=context.seed,
        )
        heads = [part.units for part in attentions_of(model)]
        neurons = [part.units for part in feed_forwards_of(model)]
        left = total_parameters(model, parts_of(model))
        context.notes.append(f"heads left per layer: {' '.join(map(str, heads))}")
        context.notes.append(f"FFN neurons left per layer: {' '.join(map(str, neurons))}")
        context.notes.append(
            f"head and FFN weights: {weights:,.0f} to {left:,.0f} ({100 * (1 - left / weights):.1f}% removed)"
        )
        if self.target_speedup is not None:
            ratio = milliseconds / table.total(model)
            context.notes.append(
                f"expected speed-up in ONNX Runtime, 1 × {self.sequence_length}: {ratio:.2f}×"
            )

    def _calibration(self, artifact: Artifact, context: Context) -> Calibration | None:
        from compress.calibration.examples import calibration

        narrows = self._cuts_units or self.hidden is not None
        wanted = (narrows and (self.criterion in _NEEDS_DATA or self.reconstruct)) or (
            self.layers is not None and self.choose_layers == "effect"
        )
        if not wanted or context.data is None:
            return None
        return calibration(artifact, context.data, self.samples, context.seed, context.device)
