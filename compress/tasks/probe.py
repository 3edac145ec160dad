"""What a frozen encoder's sentence vectors are worth: scores without any training of the model, as MTEB takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.errors import InputError
from compress.tasks.embedding import cosines_of
from compress.tasks.evaluate import predict
from compress.tasks.kind import Scores
from compress.tasks.sequence import correlations
from compress.tasks.task import Task

if TYPE_CHECKING:
    import datasets
    from numpy.typing import NDArray

    from compress.artifact import Artifact
    from compress.data import TextData

TRAIN_ROWS = 2_000  # texts that the classifier on top is fitted to
_SEED = 0  # of the lot that they are drawn by; files are often sorted by class


def probe(artifact: Artifact, data: TextData, max_length: int = 128) -> Scores:
    """Score the vectors of `compress.tasks.embedding` on a data set's test split; the model is not changed.

    Pairs with a score: Spearman's and Pearson's correlation of cosines. Single texts with classes: accuracy, in
    percent, of a logistic regression on the vectors of 2,000 training texts, as in MTEB (Muennighoff et al. 2023,
    section 3.2), which draws fewer.

    Args:
        artifact: a bare encoder or an embedding.
        data: what `load_data` gives.
        max_length: longest input in tokens.

    Raises:
        InputError: the model has a head, the data poses another task, or the training texts are all of one class.
    """
    if artifact.manifest.task is not None and artifact.task.kind != "embedding":
        raise InputError(
            f"the model has a head for {artifact.task.kind}; what is asked for is a bare encoder",
            place=artifact.manifest.source or "model",
            remedy="Score it with `compress bench`, or give an encoder that was not fine-tuned for a task.",
        )
    if data.pair and not data.labels:
        found = correlations(
            cosines_of(_vectors(artifact, data.test, max_length)), np.asarray(data.test["label"])
        )
        return {f"{data.name} {name}": value for name, value in found.items()}
    if data.kind != "classification" or data.pair:
        raise InputError(
            f"vectors of sentences are tried on pairs with a score and on texts with a class, not on {data.kind}",
            place=data.name,
            remedy="Give such data, stsb or movie-reviews for example.",
        )
    from sklearn.linear_model import LogisticRegression

    train = data.train.shuffle(seed=_SEED).select(range(min(TRAIN_ROWS, len(data.train))))
    if len(set(train["label"])) < 2:
        raise InputError(
            f"the {len(train):,} training texts are all of one class, so no classifier can be fitted",
            place=data.name,
            remedy="Give training texts of every class.",
        )
    classifier = LogisticRegression(max_iter=1_000).fit(_vectors(artifact, train, max_length), train["label"])
    right = classifier.score(_vectors(artifact, data.test, max_length), data.test["label"])
    return {f"{data.name} accuracy": 100 * float(right)}


def _vectors(artifact: Artifact, split: datasets.Dataset, max_length: int) -> NDArray[np.float32]:
    task = Task(kind="embedding", max_length=max_length)
    inputs = task.encode(split, artifact.tokenizer).inputs
    return np.asarray(predict(artifact.model, inputs, artifact.tokenizer, task, title="vectors"))
