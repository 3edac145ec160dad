"""This toolkit as one of the methods: see `bench/peers/protocol.py` for how it is called.

Variants: `prune` and `factorize`, with default options but for the budget and the number of examples.
"""

from __future__ import annotations

from pathlib import Path

import datasets
from protocol import Job, read_rows, run
from transformers import PreTrainedModel

from compress.artifact import Artifact, load, save
from compress.data import TextData
from compress.passes.base import Context, Pass
from compress.passes.factorize import Factorize
from compress.passes.prune import Prune


def main() -> None:
    """Apply one pass to a fine-tuned folder and save what comes out as the toolkit does."""
    artifacts: list[Artifact] = []

    def opened(folder: Path) -> PreTrainedModel:
        artifacts.append(load(folder))
        return artifacts[-1].model

    def compress(model: PreTrainedModel, job: Job) -> PreTrainedModel:
        data = calibration_data(job, artifacts[-1])
        context = Context(seed=job.seed, workdir=job.out, data=data, input_folder=job.model)
        artifacts.append(pass_of(job).apply(artifacts[-1], context))
        return artifacts[-1].model

    run(compress, lambda model, folder: save(artifacts[-1], folder), opened, needs="compress")


def pass_of(job: Job) -> Pass:
    """Return the pass that a job asks for."""
    samples = len(read_rows(job.calibration))
    if job.variant == "prune":
        return Prune(sparsity=job.share, samples=samples)
    return Factorize(keep=job.share, samples=samples)


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
