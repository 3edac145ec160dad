"""Replace the linear layers of a model by products of two thinner ones."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from compress.architectures import MATRICES, family_of, matrices_of
from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.factorization.gram import InputMoments


class Factorize(Pass):
    """Split the six linear layers of every transformer layer into low-rank pairs of the same rank rule.

    `whitened` makes each pair's output closest on the inputs that training examples give it (SVD-LLM, Wang et
    al. 2024, with the mean input moved to the bias); `plain` makes its weight closest (Eckart-Young).
    Embeddings and the task head stay. A layer that is a low-rank pair already is split anew only where that
    makes it smaller.

    Example:
        - {pass: factorize, keep: 0.5}
        - {pass: factorize, keep: 0.75, method: plain}
    """

    name: ClassVar[str] = "factorize"
    pass_: Literal["factorize"] = Field("factorize", alias="pass")
    keep: float = Field(gt=0, lt=1, description="share of each linear layer's weights to keep, at most")
    method: Literal["whitened", "plain"] = Field("whitened", description="weigh by inputs, or weights alone")
    samples: PositiveInt = Field(256, description="training examples that whitened looks at")

    def check(self, plan: ModelPlan) -> None:
        """Refuse a wrong order, missing data and families without a table row."""
        if plan.quantized or plan.exported:
            done = "an exported" if plan.exported else "a quantized"
            plan.refuse(f"{done} model cannot be factorized", "Put factorize before quantize and export.")
        if self.method == "whitened" and plan.data is None:
            plan.refuse(
                "method whitened needs data", "Give data, or method: plain, which looks at weights alone."
            )
        if plan.config is None:
            return
        try:
            family_of(plan.config)
        except InputError as error:
            plan.refuse(error.cause, error.remedy)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the factorized model; notes say the rank of every kind of matrix and what stayed."""
        from compress.factorization.linear import factorized
        from compress.factorization.ranks import uniform_rank

        model = artifact.model
        before = model.num_parameters()
        moments = self._moments(artifact, context) if self.method == "whitened" else {}
        ranks: dict[str, list[int]] = defaultdict(list)
        skipped: dict[str, int] = defaultdict(int)
        for names in matrices_of(model):
            for matrix in MATRICES:
                name = names[matrix]
                linear, present = _dense(model, name)
                rank = uniform_rank(linear.in_features, linear.out_features, self.keep)
                if present is not None and rank >= present:
                    skipped[f"{matrix} has rank {present} already"] += 1
                    ranks[matrix].append(present)
                    continue
                model.set_submodule(name, factorized(linear, rank, moments.get(name)))
                ranks[matrix].append(rank)
        for matrix, values in ranks.items():
            context.notes.append(f"rank of {matrix} per layer: {' '.join(map(str, values))}")
        for reason, count in skipped.items():
            context.notes.append(f"left as it is in {count} layers: {reason}")
        after = model.num_parameters()
        context.notes.append(f"parameters: {before:,} to {after:,} ({100 * after / before:.1f}%)")
        return artifact

    def _moments(self, artifact: Artifact, context: Context) -> dict[str, InputMoments]:
        from compress.factorization.gram import input_moments
        from compress.tasks import Task
        from compress.tasks.calibration import calibration_batches

        assert context.data is not None  # check() refused it otherwise
        data = context.data
        task = artifact.manifest.task or Task(
            kind="classification" if data.labels else "regression", labels=data.labels, pair=data.pair
        )
        model = artifact.model.to(context.device)  # type: ignore[arg-type]
        batches = calibration_batches(
            data.train, artifact.tokenizer, task, self.samples, context.seed, context.device
        )
        return input_moments(model, input_groups(model), (batch for batch, _ in batches))


def input_groups(model: PreTrainedModel) -> dict[str, list[str]]:
    """Return, by the module to watch, the linear modules of each layer that see the same input."""
    groups: dict[str, list[str]] = {}
    for names in matrices_of(model):
        groups[names["query"]] = [names["query"], names["key"], names["value"]]
        groups |= {names[matrix]: [names[matrix]] for matrix in ("attention_output", "ffn_in", "ffn_out")}
    return groups


def _dense(model: PreTrainedModel, name: str) -> tuple[nn.Linear, int | None]:
    """Return the plain layer that a module computes, and the module's rank where it is a pair."""
    from torch.nn import Linear

    from compress.layers import LowRankLinear

    module = model.get_submodule(name)
    if isinstance(module, LowRankLinear):
        return module.dense(), module.rank
    if isinstance(module, Linear):
        return module, None
    raise InputError(
        f"cannot factorize {type(module).__name__}", place=name, remedy="Factorize before quantize."
    )
