"""What a model answers, as one small object that is stored with it; what differs by kind is in a class of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from compress.tasks.kind import Answers, Encoded, Kind, Scores

TaskKind = Literal[
    "classification", "regression", "multilabel", "tokens", "questions", "embedding", "language"
]


def in_percent(metric: str) -> bool:
    """Say whether a main metric is in percent; a correlation is not, and counts in hundredths."""
    return metric != "spearman"


class Task(BaseModel, frozen=True, extra="forbid"):
    """What the model answers, kept end to end: in `manifest.json` and in `config.json` (`id2label`).

    Attributes:
        kind: `classification` (one class out of `labels`), `regression` (one number), `multilabel` (any number of
            `labels`), `tokens` (one of `labels` for each word), `questions` (a span of a context), `embedding` (a
            vector of a text) or `language` (masked words).
        labels: class names by id; empty where there are no classes.
        pair: whether a text pair is read instead of one text; None where that is not known, as with a model
            that other software trained: it then reads what the data has.
        max_length: longest input in tokens; longer text is cut.
    """

    kind: TaskKind
    labels: tuple[str, ...] = ()
    pair: bool | None = None
    max_length: int = 128

    @property
    def rules(self) -> Kind:
        """What this kind of task does its own way."""
        if self.kind == "multilabel":
            from compress.tasks.multilabel import MultiLabel

            return MultiLabel(self)
        if self.kind == "tokens":
            from compress.tasks.tokens import Tokens

            return Tokens(self)
        if self.kind == "questions":
            from compress.tasks.questions import SpanAnswers

            return SpanAnswers(self)
        if self.kind == "language":
            from compress.tasks.language import Language

            return Language(self)
        if self.kind == "embedding":
            from compress.tasks.embedding import Embedding

            return Embedding(self)
        from compress.tasks.sequence import Classification, Regression

        return Classification(self) if self.kind == "classification" else Regression(self)

    def gives_way(self, kind: TaskKind) -> bool:
        """Say whether a model of this task may get the head of another kind: what it learned is no answer yet."""
        return self.kind in ("embedding", "language") and kind != self.kind

    @property
    def main_metric(self) -> str:
        """Name of the metric that decides; more of it is better."""
        return self.rules.main_metric

    @property
    def per_token(self) -> bool:
        """Whether there is an answer for every token of an input, and not one for the whole."""
        return self.rules.per_token

    @property
    def one_answer(self) -> bool:
        """Whether each text, or pair, has one row of numbers as its answer, which anybody could write down."""
        return not self.per_token and self.rules.compared != "cosines"

    @property
    def labels_per_token(self) -> bool:
        """Whether there is a label for every token of an input; -100 where it has none."""
        return self.rules.labels_per_token

    def head_config(self) -> dict[str, Any]:
        """Return the config entries that give transformers' Auto class of this kind the task's head."""
        return self.rules.head_config()

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenize a split without padding, with the labels as the loss reads them; see `Kind.encode`."""
        return self.rules.encode(data, tokenizer)

    def answer(self, output: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return what a model's output says, as `loss` and `metrics` read it; see `Kind.answer`."""
        return self.rules.answer(output, inputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss: the mean over what is labelled, 0 where nothing is; see `Kind.loss`."""
        return self.rules.loss(logits, labels)

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Score answers against the targets of `encode`; see `Kind.metrics`."""
        return self.rules.metrics(answers, targets)
