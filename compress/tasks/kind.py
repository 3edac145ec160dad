"""What every kind of task has to say; a new one is a subclass in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compress.tasks.ragged import Labels, Ragged
from compress.tasks.spans import InputSpans
from compress.tasks.task import Task

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the class id of what has no label
Answers = NDArray[Any] | Ragged  # (inputs, L) for whole inputs, rows of (tokens, L) for tokens
Scores = dict[str, float]


@dataclass(frozen=True)
class Encoded:
    """A split as a model reads it.

    Attributes:
        inputs: `input_ids`, `attention_mask` and, where the model has them, `token_type_ids` of each input, not
            padded.
        labels: one an example, as `Kind.loss` reads them; what has no label is -100 or NaN.
        targets: what `Kind.metrics` reads beside the answers to `inputs`.
        parts: inputs that make one example: example i is `inputs[i * parts : (i + 1) * parts]`.
    """

    inputs: list[dict[str, list[int]]]
    labels: Labels
    targets: Any
    parts: int = 1


class Kind(ABC):
    """The rules of one kind of task.

    Attributes:
        auto_class: transformers' class that builds or loads the model.
        per_token: whether there is an answer for every token.
        labels_per_token: whether there is a label for every token.
        labels_itself: whether a text is its own label.
        compared: what two models' answers are compared as: distributions over classes, a yes or no for each of the
            labels, numbers, the cosines of vectors, or distributions over the places of a text.
        condenses: whether answers are too large to keep and `condense` makes them smaller.
        outputs_per_token: whether the model's outputs have a row for every token, though the answer may not.
        windows: whether a long text makes several inputs, as many as the tokenizer needs.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    per_token: ClassVar[bool] = False
    labels_per_token: ClassVar[bool] = False
    labels_itself: ClassVar[bool] = False
    outputs_per_token: ClassVar[bool] = False
    compared: ClassVar[Literal["classes", "labels", "numbers", "cosines", "places"]] = "classes"
    condenses: ClassVar[bool] = False
    windows: ClassVar[bool] = False

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """Name of the metric that decides; more of it is better."""

    def head_config(self) -> dict[str, Any]:
        """Return the config entries that give `auto_class` the task's head."""
        labels = self.task.labels
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: i for i, label in enumerate(labels)},
        }

    @abstractmethod
    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenize a split without padding.

        Args:
            data: the columns that `load_data` gives for this kind; without "label" nothing is labelled.
            tokenizer: the model's own.

        Raises:
            InputError: the tokenizer cannot do what the kind needs.
        """

    def spans(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> list[InputSpans]:
        """Return where in the text the tokens of `encode`'s inputs stand, in their order.

        Args:
            data: as `encode` reads it.
            tokenizer: a fast one, which knows.

        Raises:
            InputError: inputs of two tokenizers are never alike.
        """
        from compress.tasks.inputs import text_spans

        return text_spans(data, tokenizer, self.task)

    def answer(self, output: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return what a model's output says.

        Args:
            output: of a forward pass of an `auto_class` model.
            inputs: what it read, int64 (B, T).

        Returns:
            (B, L) logits for whole inputs, or (B, T, L) for tokens, where padding means nothing.
        """
        logits: Tensor = output.logits
        return logits

    def from_outputs(self, outputs: Answers) -> Answers:
        """Return what the outputs of an exported file say, by input, as `answer` does for a model's output."""
        return outputs

    def condense(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return what `metrics` reads of answers (tokens, L), given their labels (tokens,); see `condenses`."""
        return rows

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of answers and labels: the mean over what is labelled, 0 where nothing is."""

    @abstractmethod
    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Score answers, in the order of `Encoded.inputs`, against `Encoded.targets`."""


class Counted(Kind):
    """A kind whose main metric is a percentage: 100 times the ratio of two sums over examples."""

    @abstractmethod
    def ratio(self, answers: Answers, targets: Any) -> NDArray[np.float64]:
        """Return numerator and denominator of each example, (N, 2); what their sums give is the main metric."""

    @abstractmethod
    def decisions(self, answers: Answers, targets: Any) -> NDArray[Any]:
        """Return all that was decided, (D,), alike in number and order for any model: two models agree on a share."""


def labelled_mean(losses: Tensor, labelled: Tensor) -> Tensor:
    """Return the mean of `losses` where `labelled` (bool, alike in shape); 0, with a graph, where nothing is."""
    return losses.where(labelled, losses.new_zeros(())).sum() / labelled.sum().clamp(min=1)


def class_loss(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy of logits (…, L) and class ids (…), those of -100 left out.

    Args:
        logits: of each class.
        labels: int64.
        smoothing: ε in [0, 1); the label's class gets 1 − ε + ε / L of the target, each other ε / L (Szegedy et al.
            2016, section 7).
        weights: (L,) what each class counts; None counts all alike.
    """
    from torch.nn.functional import cross_entropy

    flat, ids = logits.flatten(0, -2), labels.flatten()
    losses = cross_entropy(flat, ids, ignore_index=IGNORED, reduction="none", label_smoothing=smoothing)
    if weights is not None:
        losses = losses * weights[ids.clamp(min=0)]
    return labelled_mean(losses, ids != IGNORED)


def percent(scores: dict[str, Any]) -> Scores:
    """Return shares in [0, 1] as percent."""
    return {name: 100 * float(np.asarray(score)) for name, score in scores.items()}
