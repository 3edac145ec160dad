"""TextPruner 1.1 (Yang et al. 2022), iterative pruning by its own API, in the last transformers it works with.

Variants: `even` keeps the same number of heads and neurons in every layer, `uneven` ranks all layers together.
Sixteen iterations, the most that its manual tries, where more were better; its loss is that of the labels.
"""

from __future__ import annotations

from pathlib import Path

from protocol import Job, run, units
from textpruner import GeneralConfig, TransformerPruner, TransformerPruningConfig
from transformers import PreTrainedModel

ITERATIONS = 16


def main() -> None:
    """Prune, and save by its own method."""
    pruners: list[TransformerPruner] = []

    def compress(model: PreTrainedModel, job: Job) -> PreTrainedModel:
        heads, neurons = units(model, job.share)
        config = TransformerPruningConfig(
            target_ffn_size=model.config.intermediate_size - neurons,
            target_num_of_heads=model.config.num_attention_heads - heads,
            pruning_method="iterative",
            ffn_even_masking=job.variant == "even",
            head_even_masking=job.variant == "even",
            n_iters=ITERATIONS,
        )
        batches = [batch | {"labels": labels} for batch, labels in job.calibration_batches(model)]
        pruners.append(TransformerPruner(model, config, GeneralConfig("cpu", str(job.out))))
        pruners[0].prune(batches, save_model=False)
        return pruners[0].model

    def save(model: PreTrainedModel, folder: Path) -> None:
        pruners[0].save_model(folder.name)

    run(compress, save)


if __name__ == "__main__":
    main()
