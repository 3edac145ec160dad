"""Replace the linear layers of a model by products of two thinner ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from compress.passes.base import Context, ModelPlan, Pass
from compress.passes.recovery import check_recovery, recover

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.calibration.examples import Calibration


class Factorize(Pass):
    """Split the linear layers of attention and feed-forward parts into low-rank pairs.

    `kfac` weighs a layer's inputs by what they are in real text and its outputs by what reaches the model's
    answer (Kronecker factors of Martens & Grosse 2015, no labels needed) and gives each layer the rank that is
    worth it, within one budget. The others give every layer the same share: `whitened` weighs inputs alone
    (SVD-LLM, Wang et al. 2024), `fisher` by labels and rows (FWSVD, Hsu et al. 2022), `plain` looks at weights
    alone (Eckart-Young). With data, what is split is the least-squares solution for the dense model's outputs.
    A pair is split anew only where that makes it smaller. `embeddings` splits the token table as well.

    The budget is `keep`, a share of the weights, and so of the FLOPs: a weight is two operations a token. With
    `kfac` it can be `target_speedup` instead, spread by what each rank saves in time on this machine.

    Example:
        - {pass: factorize, keep: 0.5}
        - {pass: factorize, keep: 0.5, embeddings: 0.5, recover: 1}
        - {pass: factorize, target_speedup: 1.5, sequence_length: 64}
        - {pass: factorize, keep: 0.75, method: plain}
    """

    name: ClassVar[str] = "factorize"
    pass_: Literal["factorize"] = Field("factorize", alias="pass")
    keep: float | None = Field(
        None, gt=0, lt=1, description="share of the linear layers' weights to keep, at most"
    )
    target_speedup: float | None = Field(
        None, gt=1, description="how many times faster the exported model is to be, here at batch 1"
    )
    sequence_length: PositiveInt = Field(128, description="tokens a text, for target_speedup")
    method: Literal["kfac", "whitened", "fisher", "plain"] = Field(
        "kfac", description="what makes a direction important"
    )
    embeddings: float | None = Field(
        None, gt=0, lt=1, description="share of the token embeddings to keep; left out: all"
    )
    reconstruct: bool = Field(True, description="solve weights anew, with the data's texts")
    samples: PositiveInt = Field(256, description="training examples to look at")
    recover: PositiveFloat | None = Field(
        None, description="epochs of training on the labels and on the answers of the model as it came in"
    )

    def check(self, plan: ModelPlan) -> None:
        """Refuse a wrong order, missing data, and any but one budget."""
        if plan.quantized or plan.exported:
            done = "an exported" if plan.exported else "a quantized"
            plan.refuse(f"{done} model cannot be factorized", "Put factorize before quantize and export.")
        if self.keep is None and self.target_speedup is None:
            plan.refuse("no budget", "Give keep (the share of weights that stays) or target_speedup.")
        elif self.keep is not None and self.target_speedup is not None:
            plan.refuse("keep and target_speedup at once", "Give one of them: each says how much goes.")
        if self.target_speedup is not None and self.method != "kfac":
            plan.refuse(
                f"target_speedup with method: {self.method}",
                "Leave method out: kfac alone spreads time over layers. The others go with keep.",
            )
        if self.method != "plain" and plan.data is None:
            plan.refuse(
                f"method {self.method} needs data",
                "Give data, or method: plain, which looks at weights alone.",
            )
        if self.method == "fisher" and plan.task and plan.task.kind == "embedding":
            plan.refuse(
                "method fisher needs the loss of single texts, an embedding's is one of pairs", "Use kfac."
            )
        if self.method == "fisher" and plan.task is None:
            plan.refuse(
                "method fisher needs a model with a trained head", "Put finetune before it, or use kfac."
            )
        check_recovery(self.recover, plan)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the factorized model; notes say every layer's rank."""
        from compress.calibration.examples import calibration
        from compress.factorization.run import Speedup, factorize_linears

        model = artifact.model
        model.to(context.device)  # type: ignore[arg-type]
        before = model.num_parameters()
        budget: float | Speedup
        if self.target_speedup is not None:
            from compress.factorization.latency import measure_latency

            table = measure_latency(artifact, 1, self.sequence_length)
            milliseconds = table.total(model)
            budget = Speedup(table, self.target_speedup)
        else:
            assert self.keep is not None
            budget = self.keep
        examples = None
        if self.method != "plain" and context.data is not None:
            examples = calibration(artifact, context.data, self.samples, context.seed, context.device)
        if self.embeddings is not None:
            self._split_embeddings(artifact, context, examples)
        ranks = factorize_linears(artifact, examples, self.method, budget, self.reconstruct)
        for kind in dict.fromkeys(name.rpartition(".")[2] for name in ranks):
            found = [rank for name, rank in ranks.items() if name.rpartition(".")[2] == kind]
            context.notes.append(f"rank of {kind}: {' '.join(str(rank or 'full') for rank in found)}")
        if self.target_speedup is not None:
            ratio = milliseconds / table.total(model)
            context.notes.append(
                f"expected speed-up in ONNX Runtime, 1 × {self.sequence_length}: {ratio:.2f}×"
            )
        after = model.num_parameters()
        context.notes.append(f"parameters: {before:,} to {after:,} ({100 * after / before:.1f}%)")
        return artifact if self.recover is None else recover(artifact, context, self.recover)

    def _split_embeddings(self, artifact: Artifact, context: Context, examples: Calibration | None) -> None:
        """Split the token table: rows count as often as the data has them, directions as the answer follows."""
        import torch

        from compress.calibration.embeddings import embedding_sensitivity
        from compress.calibration.examples import check_ids
        from compress.factorization.embedding import factorize_input_embedding
        from compress.factorization.ranks import uniform_rank
        from compress.tasks.inputs import encode

        assert self.embeddings is not None
        table: Any = artifact.model.get_input_embeddings()
        rows, width = table.num_embeddings, table.embedding_dim
        rank = uniform_rank(rows, width, self.embeddings)
        counts = None
        if context.data is not None and artifact.manifest.task is not None:
            encoded = encode(context.data.aligned(artifact.task).train, artifact.tokenizer, artifact.task)
            ids = torch.tensor([token for example in encoded for token in example["input_ids"]])
            check_ids(ids, rows)
            counts = torch.bincount(ids, minlength=rows).double() + 1
        metric = None
        if self.method == "kfac" and examples is not None:
            metric = embedding_sensitivity(artifact.model, examples.inputs)
        factorize_input_embedding(artifact.model, rank, counts, metric)
        context.notes.append(f"rank of the token embeddings: {rank} of {width}")
