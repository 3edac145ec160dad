"""This toolkit as one of the methods: see `bench/peers/protocol.py` for how it is called.

Variants: `prune` and `factorize`, with default options but for the budget; after a hyphen `teacher` or `labels` for
one epoch of training on all training examples, on the dense model's answers as `recover: 1` does it or on the labels
alone with the same options.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import datasets
from protocol import Job, read_rows, run
from transformers import PreTrainedModel

from compress.artifact import Artifact, load, save
from compress.data import TextData, load_data
from compress.passes.base import Context, Pass
from compress.passes.factorize import Factorize
from compress.passes.finetune import Finetune
from compress.passes.prune import Prune
from compress.passes.recovery import recover

EPOCHS = 1


def main() -> None:
    """Apply one pass to a fine-tuned folder and save what comes out as the toolkit does."""
    artifacts: list[Artifact] = []

    def opened(folder: Path) -> PreTrainedModel:
        artifacts.append(load(folder))
        return artifacts[-1].model

    def compress(model: PreTrainedModel, job: Job) -> PreTrainedModel:
        artifact, (pass_name, _, recovery) = artifacts[-1], job.variant.partition("-")
        context = Context(job.seed, job.out, calibration_data(job, artifact), input_folder=job.model)
        artifact = pass_of(pass_name, job).apply(artifact, context)
        if recovery:
            assert artifact.manifest.data is not None
            data = load_data(artifact.manifest.data).aligned(artifact.task)
            artifact = trained(recovery, artifact, dataclasses.replace(context, data=data))
        artifacts.append(artifact)
        return artifact.model

    run(compress, lambda model, folder: save(artifacts[-1], folder), opened, needs="compress")


def pass_of(name: str, job: Job) -> Pass:
    """Return the pass that a job asks for."""
    samples = len(read_rows(job.calibration))
    if name == "prune":
        return Prune(sparsity=job.share, samples=samples)
    return Factorize(keep=job.share, samples=samples)


def trained(recovery: str, artifact: Artifact, context: Context) -> Artifact:
    """Return the compressed model after an epoch on the dense model's answers (`teacher`) or on the labels."""
    if recovery == "teacher":
        return recover(artifact, context, EPOCHS)
    return Finetune(epochs=EPOCHS, learning_rate=1e-4, dropout=0).apply(artifact, context)


def calibration_data(job: Job, artifact: Artifact) -> TextData:
    """Return data that holds the calibration rows and nothing else, so that a pass cannot look at more."""
    rows = read_rows(job.calibration)
    split = datasets.Dataset.from_dict({key: [row[key] for row in rows] for key in ("text", "label")})
    return TextData(
        name=job.calibration.stem,
        train=split,
        validation=split,
        test=split,
        labels=artifact.task.labels,
        pair=False,
        fingerprint=job.calibration.stem,
        notes=(),
    )


if __name__ == "__main__":
    main()
