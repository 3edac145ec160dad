"""What every part of a search works on: the reference and its data."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress import pipeline
from compress.artifact import content_hash, read_config, read_manifest
from compress.data import TextData, load_data
from compress.errors import InputError
from compress.manifest import hash_json, versions
from compress.pipeline import Step
from compress.reload import is_quantized
from compress.search.space import Structure
from compress.tasks import Task, in_percent

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.data.config import DataConfig
    from compress.tasks.kind import Answers

_LENGTHS = 1000  # texts that give the mean length
_COMPARED = 256  # validation texts that answers are compared on
_WIDE = 512  # hidden widths beyond which models are trained more carefully


@dataclass(frozen=True)
class Setting:
    """A search's fixed points.

    Attributes:
        reference: folder of the fine-tuned model that goes in.
        whole: its structure.
        task: what it answers.
        config, data: what is trained and scored on, in the reference's label order.
        score: its main metric on the validation split.
        mean_length: tokens of a text.
        texts: that the last training reads an epoch.
        options: of the training, which decide results.
        seed: of everything random.
    """

    reference: Path
    whole: Structure
    task: Task
    config: DataConfig
    data: TextData
    score: float
    mean_length: int
    texts: int
    options: Options
    seed: int

    @property
    def origin(self) -> str:
        """Hash of what everything begins with."""
        return hash_json([content_hash(self.reference), self.data.fingerprint, self.seed, versions()])

    def answers(self, model: Artifact) -> Answers:
        """Return a model's answers to the first validation texts."""
        from compress.tasks.evaluate import predict

        rows = self.data.validation.select(range(min(_COMPARED, len(self.data.validation))))
        inputs = self.task.encode(rows, model.tokenizer).inputs
        return predict(model.model, inputs, model.tokenizer, self.task, title="compare answers")

    @functools.cached_property
    def reference_answers(self) -> Answers:
        """The reference's, asked once for all structures."""
        from compress.artifact import load

        return self.answers(load(self.reference))

    def run(self, model: Path, steps: Sequence[Step], scratch: Path) -> Path:
        """Run a chain of passes on a model with the search's data; return the last step's folder."""
        chain = pipeline.plan(str(model), steps, self.config, self.seed)
        assert chain.data is not None
        told = dataclasses.replace(
            chain, data=dataclasses.replace(chain.data, notes=())
        )  # said once is enough
        return pipeline.run(told, scratch)[-1]

    def drop(self, score: float) -> float:
        """Return the points that a validation score lies below the reference's."""
        return self.points(self.score - score)

    def points(self, difference: float) -> float:
        """Return a difference of the main metric in points: percent, or hundredths of a correlation."""
        return difference / (1.0 if in_percent(self.task.main_metric) else 0.01)


@dataclass(frozen=True)
class Options:
    """How structures are trained.

    Attributes:
        epochs: of the long training.
        unlabelled: more text for it.
    """

    epochs: float = 3
    unlabelled: tuple[str, ...] = ()


def learning_rate_of(hidden: int, anew: bool) -> float:
    """Return the peak learning rate.

    Args:
        hidden: width; wide models are trained more carefully.
        anew: whether there is a head to learn, or what missing layers did. Pruning and factorization leave less to do:
            at 1e-4 an epoch took MiniLM-L6 without 60% of its weights further from its reference than it was before.
    """
    return (1e-4 if anew else 5e-5) * (1.0 if hidden <= _WIDE else 0.5)


def setting_of(reference: Path, config: DataConfig, options: Options, seed: int) -> Setting:
    """Read what a search begins with.

    Raises:
        InputError: the model is int8, its family has no layers to drop, or its task has no score to keep.
    """
    from compress.architectures import layer_count_of
    from compress.artifact import load
    from compress.data.unlabelled import load_unlabelled
    from compress.tasks.evaluate import evaluate

    model, manifest = read_config(reference), read_manifest(reference)
    place = f"search: {reference}"
    if is_quantized(model):
        raise InputError(
            "the model is int8 already", place=place, remedy="Give the folder from before it was quantized."
        )
    task = manifest.task
    if task is None or task.kind in ("language", "embedding"):
        kind = "no trained head" if task is None else f"the task {task.kind}"
        raise InputError(
            f"the model has {kind}, so no answer could be right or wrong",
            place=place,
            remedy="Give a model that was fine-tuned for labelled data.",
        )
    data = load_data(config.posing(task)).aligned(task, f"data {config.source}")
    if not data.scored_test:
        raise InputError(
            "the data has no test rows", place=config.source, remedy="Give data with a test split."
        )
    whole = Structure(layer_count_of(model), model.hidden_size, 0.0, 1.0, model.vocab_size)
    artifact = load(reference)
    known = manifest.history[-1].after if manifest.history and manifest.data == config.posing(task) else {}
    scores = known or evaluate(artifact, data.validation, "score of the reference")
    rows = data.validation.select(range(min(_LENGTHS, len(data.validation))))
    lengths = [len(each["input_ids"]) for each in task.encode(rows, artifact.tokenizer).inputs]
    more = [load_unlabelled(source, data.pair, data).data for source in options.unlabelled]
    return Setting(
        reference=reference,
        whole=whole,
        task=task,
        config=config.posing(task),
        data=data,
        score=scores[task.main_metric],
        mean_length=math.ceil(float(np.mean(lengths))),
        texts=len(data.train) + sum(map(len, more)),
        options=options,
        seed=seed,
    )
