"""Extractive question answering: the span of a context that answers a question."""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.errors import InputError
from compress.tasks.inputs import rows_of
from compress.tasks.kind import IGNORED, Answers, Counted, Encoded, Scores, class_loss
from compress.tasks.ragged import Ragged
from compress.tasks.spans import InputSpans, spans_of

if TYPE_CHECKING:
    import datasets
    from transformers import BatchEncoding, PreTrainedTokenizerBase

LONGEST_ANSWER = 30  # tokens, as in BERT's own script for SQuAD
_NEVER = -1e4  # a logit that a softmax makes 0 of, in half precision too
_SHORTEST_INPUT = 16  # tokens; a window of context has to fit beside the question


@dataclass(frozen=True)
class Spans:
    """What the answers for windows are held against.

    Attributes:
        contexts: of every question.
        golds: the answers that count as right for every question; [""] where it has none.
        examples: number of each window's question, ascending.
        offsets: of each window (tokens, 2): where each token of the context begins and ends in it; -1 for others.
    """

    contexts: list[str]
    golds: list[list[str]]
    examples: list[int]
    offsets: list[NDArray[np.int64]]


class SpanAnswers(Counted):
    """Where the answer starts and ends; contexts that are too long are read in windows that overlap by a quarter.

    In a window that does not hold the answer both are the first token (Devlin et al. 2019, section 4.3). That is
    an answer of its own, "none", only where the data has questions without one.
    """

    compared = "places"
    auto_class = "AutoModelForQuestionAnswering"
    per_token = outputs_per_token = windows = True
    main_metric = "f1"

    def head_config(self) -> dict[str, Any]:
        """Return nothing: the head is the same for any data."""
        return {}

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Read questions ("text"), contexts ("text_pair") and answers; the inputs are windows.

        Labels are int64 (windows, 2): first and last token of the first answer; the targets are `Spans`.

        Raises:
            InputError: the tokenizer does not say where its tokens stand in the text, or `max_length` leaves no
                room for a context.
        """
        if not tokenizer.is_fast or self.task.max_length < _SHORTEST_INPUT:
            raise InputError(
                f"max_length {self.task.max_length} leaves no room for a context beside the question"
                if tokenizer.is_fast
                else "the tokenizer does not say where in the text its tokens stand, which spans need",
                place=type(tokenizer).__name__,
                remedy=f"Use a fast tokenizer (tokenizer.json) and a max_length of {_SHORTEST_INPUT} or more.",
            )
        questions, contexts = self._cut(list(data["text"]), tokenizer), list(data["text_pair"])
        encoded = self._windows(questions, contexts, tokenizer)
        examples = list(encoded["overflow_to_sample_mapping"])
        offsets = []
        for window, pairs in enumerate(encoded["offset_mapping"]):
            of_context = np.array([part == 1 for part in encoded.sequence_ids(window)])
            offsets.append(np.where(of_context[:, None], np.array(pairs), -1))
        labelled = "label" in data.column_names
        answers = list(data["label"]) if labelled else [{"text": [], "answer_start": []}] * len(data)
        labels = np.full((len(examples), 2), IGNORED, np.int64)
        if labelled:
            labels[:] = [_span(answers[e], place) for e, place in zip(examples, offsets, strict=True)]
        inputs = rows_of(encoded, tokenizer.model_input_names)
        golds = [list(answer["text"]) or [""] for answer in answers]
        return Encoded(inputs, labels, Spans(contexts, golds, examples, offsets))

    def spans(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> list[InputSpans]:
        """Return where in question and context the tokens of each window stand."""
        questions, contexts = self._cut(list(data["text"]), tokenizer), list(data["text_pair"])
        encoded = self._windows(questions, contexts, tokenizer)
        return [
            InputSpans(
                of, spans_of(encoded, window, encoded.sequence_ids(window), (questions[of], contexts[of]))
            )
            for window, of in enumerate(encoded["overflow_to_sample_mapping"])
        ]

    def _windows(
        self, questions: list[str], contexts: list[str], tokenizer: PreTrainedTokenizerBase
    ) -> BatchEncoding:
        encoded: BatchEncoding = tokenizer(
            questions,
            contexts,
            truncation="only_second",
            max_length=self.task.max_length,
            stride=self.task.max_length // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=False,
        )
        return encoded

    def _cut(self, questions: list[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Cut questions to half of the input, so that some context always fits."""
        longest = self.task.max_length // 2 - 4
        alone = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)
        ends = [pairs[longest - 1][1] if len(pairs) > longest else None for pairs in alone["offset_mapping"]]
        return [question[:end].strip() for question, end in zip(questions, ends, strict=True)]

    def answer(self, output: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, T, 2): logits of the start and of the end; no span is on padding, so the loss leaves it out."""
        padding = inputs["attention_mask"][..., None] == 0
        return torch.stack([output.start_logits, output.end_logits], -1).masked_fill(padding, _NEVER)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy over tokens of logits (B, T, 2) and places (B, 2), the mean of start and end."""
        return class_loss(logits.transpose(1, 2), labels)

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Return f1 and exact match in percent, as SQuAD's script does: the best over a question's right answers."""
        said = self._said(answers, targets)
        pairs = list(zip(said, targets.golds, strict=True))
        exact = [max(float(plain(text) == plain(gold)) for gold in golds) for text, golds in pairs]
        return {
            "f1": 100 * float(self.ratio(answers, targets)[:, 0].mean()),
            "exact_match": 100 * float(np.mean(exact)),
        }

    def decisions(self, answers: Answers, targets: Any) -> NDArray[Any]:
        """Return (N,) the text that is given as the answer to each question."""
        return np.array(self._said(answers, targets), dtype=np.str_)

    def ratio(self, answers: Answers, targets: Any) -> NDArray[np.float64]:
        """Return (N, 2): each question's F1 and 1."""
        said = self._said(answers, targets)
        best = [
            max(overlap(text, gold) for gold in golds)
            for text, golds in zip(said, targets.golds, strict=True)
        ]
        return np.stack([np.array(best), np.ones(len(best))], -1)

    def _said(self, answers: Answers, targets: Spans) -> list[str]:
        """Return the text of the best span over all windows of each question."""
        assert isinstance(answers, Ragged)
        none_allowed = any(golds == [""] for golds in targets.golds)
        best: list[tuple[float, str]] = [(-np.inf, "")] * len(targets.contexts)
        none = np.full(len(targets.contexts), np.inf)
        for window, (example, offsets) in enumerate(zip(targets.examples, targets.offsets, strict=True)):
            start, end = answers[window].T
            none[example] = min(none[example], start[0] + end[0])
            score, first, last = best_span(start, end, offsets[:, 0] >= 0)
            if score > best[example][0]:
                text = targets.contexts[example][offsets[first, 0] : offsets[last, 1]]
                best[example] = float(score), text
        return ["" if none_allowed and none[i] > score else text for i, (score, text) in enumerate(best)]


def best_span(start: NDArray[Any], end: NDArray[Any], allowed: NDArray[np.bool_]) -> tuple[float, int, int]:
    """Return score, first and last token of the span with the highest start plus end logit.

    Args:
        start: logits (T,).
        end: logits (T,).
        allowed: (T,) which tokens may begin or end one. A span has 30 tokens at most.
    """
    score = np.where(allowed, start, -np.inf)[:, None] + np.where(allowed, end, -np.inf)[None]
    span = np.tri(len(start), dtype=bool).T & np.tri(len(start), k=LONGEST_ANSWER - 1, dtype=bool)
    score = np.where(span, score, -np.inf)
    first, last = divmod(int(score.argmax()), len(start))
    return float(score[first, last]), first, last


def _span(answer: dict[str, Any], offsets: NDArray[np.int64]) -> tuple[int, int]:
    """Return the first answer's first and last token in a window, (0, 0) where it is not wholly in it."""
    if not answer["text"]:
        return 0, 0
    text = answer["text"][0]
    # Space around an answer is in no token, or in its neighbour's.
    begin = answer["answer_start"][0] + len(text) - len(text.lstrip())
    end = begin + len(text.strip())
    # Tokens of a byte-level tokenizer begin with the space before them, so starts are not looked at alone.
    inside = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > begin) & (offsets[:, 0] >= 0))
    if len(inside) == 0 or offsets[inside[0], 0] > begin or offsets[inside[-1], 1] < end:
        return 0, 0
    return int(inside[0]), int(inside[-1])


def plain(text: str) -> str:
    """Return lower case without punctuation, articles and surplus space (Rajpurkar et al. 2016, section 6.1)."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def overlap(text: str, gold: str) -> float:
    """Return the F1 of the words of two plain texts, each as often as it occurs; both empty is 1."""
    words, wanted = plain(text).split(), plain(gold).split()
    if not words or not wanted:
        return float(words == wanted)
    shared = (Counter(words) & Counter(wanted)).total()
    return 2 * shared / (len(words) + len(wanted))
