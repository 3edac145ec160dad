"""Sequence classification and regression over one sentence or a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from compress.tasks.inputs import encode_text
from compress.tasks.kind import IGNORED, Answers, Encoded, Kind, Scores, class_loss, labelled_mean, percent

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


class Classification(Kind):
    """One class out of several; cross-entropy."""

    main_metric = "accuracy"

    def head_config(self) -> dict[str, Any]:
        """Return labels by name and transformers' name of the problem."""
        return super().head_config() | {"problem_type": "single_label_classification"}

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Read "text", "text_pair" and class ids; labels and targets are int64 (N,)."""
        inputs = encode_text(data, tokenizer, self.task)
        given = data["label"] if "label" in data.column_names else [IGNORED] * len(data)
        labels = np.asarray(given, np.int64)
        return Encoded(inputs, labels, labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of logits (B, L) and class ids (B,)."""
        return class_loss(logits, labels)

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Return accuracy, precision, recall and f1 in percent.

        The last three are for class 1 where there are two classes, else macro averages.
        """
        from sklearn.metrics import accuracy_score, precision_recall_fscore_support

        answer = np.asarray(answers).argmax(-1)
        average = "binary" if len(self.task.labels) == 2 else "macro"
        precision, recall, f1, _ = precision_recall_fscore_support(
            targets, answer, average=average, zero_division=0
        )
        accuracy = accuracy_score(targets, answer)
        return percent({"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1})


class Regression(Kind):
    """One number; squared error."""

    compared = "numbers"
    main_metric = "spearman"

    def head_config(self) -> dict[str, Any]:
        """Return a single output and transformers' name of the problem."""
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Read "text", "text_pair" and numbers; labels and targets are float32 (N,)."""
        inputs = encode_text(data, tokenizer, self.task)
        given = data["label"] if "label" in data.column_names else [np.nan] * len(data)
        labels = np.asarray(given, np.float32)
        return Encoded(inputs, labels, labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error of logits (B, 1) and numbers (B,)."""
        errors = logits.squeeze(-1) - labels.nan_to_num()
        return labelled_mean(errors.square(), ~labels.isnan())

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Return pearson and spearman in [-1, 1] with mse."""
        answer = np.asarray(answers).reshape(-1)
        return correlations(answer, targets) | {"mse": float(np.mean((answer - targets) ** 2))}


def correlations(answer: Any, targets: Any) -> Scores:
    """Return Spearman's and Pearson's correlation of two arrays (N,); 0 where one of them is constant."""
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(answer) == 0 or np.ptp(targets) == 0:  # a correlation with a constant is undefined
        return {"spearman": 0.0, "pearson": 0.0}
    return {
        "spearman": float(spearmanr(answer, targets).statistic),
        "pearson": float(pearsonr(answer, targets).statistic),
    }
