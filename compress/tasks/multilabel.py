"""Any number of labels for a text or a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from compress.tasks.inputs import encode_text
from compress.tasks.kind import Answers, Counted, Encoded, Scores, labelled_mean, percent

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


class MultiLabel(Counted):
    """Each label is a yes or a no of its own; a label is given where its chance is 0.5 or more."""

    compared = "labels"
    main_metric = "micro_f1"

    def head_config(self) -> dict[str, Any]:
        """Return labels by name and transformers' name of the problem."""
        return super().head_config() | {"problem_type": "multi_label_classification"}

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Read "text", "text_pair" and lists of class ids; labels are float32 (N, L) of 0, 1, and NaN for unknown."""
        inputs = encode_text(data, tokenizer, self.task)
        labels = np.full((len(data), len(self.task.labels)), np.nan, np.float32)
        if "label" in data.column_names:
            labels[:] = 0
            for row, ids in enumerate(data["label"]):
                labels[row, ids] = 1
        return Encoded(inputs, labels, labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the binary cross-entropy of logits (B, L) and labels (B, L), the mean over labels and rows."""
        losses = binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
        return labelled_mean(losses, ~labels.isnan())

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Return micro_f1, macro_f1 and exact (all labels right) in percent."""
        from sklearn.metrics import f1_score

        given, true = decided(answers), targets == 1
        # A single column scikit-learn takes for two classes, of which its averages would count the no as well.
        micro, macro = ("micro", "macro") if true.shape[-1] > 1 else ("binary", "binary")
        return percent(
            {
                "micro_f1": f1_score(true, given, average=micro, zero_division=0),
                "macro_f1": f1_score(true, given, average=macro, zero_division=0),
                "exact": (given == true).all(-1).mean(),
            }
        )

    def decisions(self, answers: Answers, targets: Any) -> NDArray[Any]:
        """Return (N · L,) whether each label is given."""
        return decided(answers).ravel()

    def ratio(self, answers: Answers, targets: Any) -> NDArray[np.float64]:
        """Return (N, 2): twice the labels that are right, and those given plus those true; micro F1 is their ratio."""
        given, true = decided(answers), targets == 1
        return np.stack([2.0 * (given & true).sum(-1), given.sum(-1) + true.sum(-1)], -1)


def decided(answers: Answers) -> NDArray[np.bool_]:
    """Return bool (N, L): a chance of 0.5 is a logit of 0."""
    given: NDArray[np.bool_] = np.asarray(answers) >= 0
    return given
