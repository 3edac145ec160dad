"""Torch-Pruning 1.6.1 (Fang et al. 2023, DepGraph) by its own API, after its example for Hugging Face BERT.

Variants: `magnitude` and `random` remove the same share of every layer, `taylor` ranks all layers together.
"""

from __future__ import annotations

import torch_pruning as tp
from protocol import Job, layer_matrices, run, units
from torch import Tensor, nn
from transformers import PreTrainedModel


def compress(model: PreTrainedModel, job: Job) -> PreTrainedModel:
    """Remove heads and neurons; the residual width stays."""
    batches = job.calibration_batches(model)
    if job.variant == "taylor":
        for batch, labels in batches:
            loss = nn.functional.cross_entropy(model(**batch).logits, labels, reduction="sum")
            (loss / sum(len(labels) for _, labels in batches)).backward()
    attentions = [module for module in model.modules() if hasattr(module, "num_attention_heads")]
    heads = {
        child: module.num_attention_heads
        for module in attentions
        for name, child in module.named_children()
        if name in ("query", "key", "value", "q", "k", "v")
    }
    removed_heads, removed_neurons = units(model, job.share)
    # What writes to the residual stream keeps its width, as does everything outside the layers.
    width = model.config.hidden_size
    inner = [
        module
        for module in layer_matrices(model).values()
        if module in heads or module.in_features == width < module.out_features
    ]
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs(batches[0][0]),
        importance=IMPORTANCE[job.variant](),
        global_pruning=job.variant == "taylor",
        # It rounds what is removed up, so that a rounding error would cost one more; a hundredth less does not.
        pruning_ratio=(removed_neurons - 0.01) / model.config.intermediate_size,
        head_pruning_ratio=(removed_heads - 0.01) / model.config.num_attention_heads,
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        ignored_layers=[
            module for module in model.modules() if isinstance(module, nn.Linear) and module not in inner
        ],
        output_transform=lambda output: output.logits.sum(),
    )
    pruner.step()
    for module in attentions:
        query = next(child for child in module.children() if child in heads)
        module.num_attention_heads = pruner.num_heads[query]
        module.all_head_size = query.out_features
    return model


def example_inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return one row to trace with."""
    return {name: value[:1] for name, value in batch.items()}


IMPORTANCE = {
    "magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean"),
    "taylor": tp.importance.GroupTaylorImportance,
    "random": tp.importance.RandomImportance,
}

if __name__ == "__main__":
    run(compress)
