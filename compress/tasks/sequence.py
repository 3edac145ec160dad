"""Sequence classification and regression over one sentence or a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Task(BaseModel, frozen=True, extra="forbid"):
    """What the model answers, kept end to end: in `manifest.json` and in `config.json` (`id2label`).

    Attributes:
        kind: `classification` (one class out of `labels`) or `regression` (one number).
        labels: class names by id; empty for regression.
        pair: whether a text pair is read instead of one text; None where that is not known, as with a model
            that other software trained: it then reads what the data has.
        max_length: longest input in tokens; longer text is cut.
    """

    kind: Literal["classification", "regression"]
    labels: tuple[str, ...] = ()
    pair: bool | None = None
    max_length: int = 128

    @property
    def main_metric(self) -> str:
        """Name of the metric that decides: `accuracy`, or `spearman` for regression."""
        return "accuracy" if self.kind == "classification" else "spearman"

    def head_config(self) -> dict[str, Any]:
        """Return the config entries that give `AutoModelForSequenceClassification` this task's head."""
        if self.kind == "regression":
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    def metrics(self, logits: NDArray[np.float32], targets: NDArray[Any]) -> dict[str, float]:
        """Score `logits` (examples, labels or 1) against `targets` (examples,) class ids or numbers.

        Returns:
            accuracy, precision, recall and f1 in percent (the last three for class 1 where there are two
            classes, else macro averages); or pearson and spearman in [-1, 1] with mse.
        """
        import numpy as np

        if self.kind == "regression":
            from scipy.stats import pearsonr, spearmanr

            answer = logits.reshape(-1)
            if np.ptp(answer) == 0 or np.ptp(targets) == 0:  # a correlation with a constant is undefined
                pearson = spearman = 0.0
            else:
                pearson = float(pearsonr(answer, targets).statistic)
                spearman = float(spearmanr(answer, targets).statistic)
            mse = float(np.mean((answer - targets) ** 2))
            return {"spearman": spearman, "pearson": pearson, "mse": mse}
        from sklearn.metrics import accuracy_score, precision_recall_fscore_support

        answer = logits.argmax(-1)
        average = "binary" if len(self.labels) == 2 else "macro"
        precision, recall, f1, _ = precision_recall_fscore_support(
            targets, answer, average=average, zero_division=0
        )
        accuracy = accuracy_score(targets, answer)
        scores = {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
        return {name: 100 * float(score) for name, score in scores.items()}
