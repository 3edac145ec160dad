"""Token classification: a tag for every word, such as its part of speech or the entity that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compress.errors import InputError
from compress.tasks.inputs import encode_text, rows_of
from compress.tasks.kind import IGNORED, Answers, Counted, Encoded, Scores, class_loss, percent
from compress.tasks.ragged import Ragged
from compress.tasks.spans import InputSpans, Span, spans_of

if TYPE_CHECKING:
    import datasets
    from transformers import BatchEncoding, PreTrainedTokenizerBase


@dataclass(frozen=True)
class WordTags:
    """What the answers to words are held against.

    Attributes:
        tags: class ids of every sentence's words, those included that were cut off.
        pieces: for each sentence the position of each word's first piece in its input, as many as were read.
    """

    tags: list[list[int]]
    pieces: list[NDArray[np.int64]]


class Tokens(Counted):
    """One tag a word; the first piece of a word carries it, other pieces count for nothing."""

    auto_class = "AutoModelForTokenClassification"
    per_token = labels_per_token = outputs_per_token = True

    @property
    def main_metric(self) -> str:
        """`f1` of whole entities where the tags are BIO, else `accuracy`."""
        return "f1" if self._entities else "accuracy"

    @property
    def _entities(self) -> bool:
        return all(label == "O" or label[:2] in ("B-", "I-") for label in self.task.labels)

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Read "tokens" and class ids; labels are int64 (T,), the targets are `WordTags`.

        Data without "tokens" is plain text without labels.

        Raises:
            InputError: the tokenizer does not say which word a piece belongs to.
        """
        if "tokens" not in data.column_names:
            inputs = encode_text(data, tokenizer, self.task)
            labels = [np.full(len(row["input_ids"]), IGNORED, np.int64) for row in inputs]
            return Encoded(inputs, Ragged.of(labels), None)
        if not tokenizer.is_fast:
            raise InputError(
                "the tokenizer does not say which word a piece belongs to, which tags for words need",
                place=type(tokenizer).__name__,
                remedy="Use a model with a fast tokenizer (tokenizer.json).",
            )
        words = spaced([list(sentence) for sentence in data["tokens"]], tokenizer)
        encoded = self._pieces(words, tokenizer)
        pieces = [_first_pieces(encoded.word_ids(row)) for row in range(len(words))]
        given = "label" in data.column_names
        tags = [list(row) for row in data["label"]] if given else [[IGNORED] * len(row) for row in words]
        inputs = rows_of(encoded)
        labels = []
        for row, starts, ids in zip(inputs, pieces, tags, strict=True):
            label = np.full(len(row["input_ids"]), IGNORED, np.int64)
            read = starts >= 0
            label[starts[read]] = np.asarray(ids)[: len(starts)][read]
            labels.append(label)
        return Encoded(inputs, Ragged.of(labels), WordTags(tags, pieces))

    def spans(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> list[InputSpans]:
        """Return where in its word each token stands.

        A piece of white space alone that begins a word carries the word's tag, so it stands where the next one does.
        """
        if "tokens" not in data.column_names:
            return super().spans(data, tokenizer)
        words = spaced([list(sentence) for sentence in data["tokens"]], tokenizer)
        encoded = self._pieces(words, tokenizer, return_offsets_mapping=True)
        found = [spans_of(encoded, row, encoded.word_ids(row), read) for row, read in enumerate(words)]
        return [
            InputSpans(row, [_or_next(*pair) for pair in pairwise([*spans, None])])
            for row, spans in enumerate(found)
        ]

    def _pieces(
        self, words: list[list[str]], tokenizer: PreTrainedTokenizerBase, **options: bool
    ) -> BatchEncoding:
        encoded: BatchEncoding = tokenizer(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=self.task.max_length,
            padding=False,
            **options,
        )
        return encoded

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of logits (B, T, L) and class ids (B, T), the mean over labelled tokens."""
        return class_loss(logits, labels)

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Return accuracy of words in percent, and f1, precision and recall of whole entities where tags are BIO.

        A word that was cut off, or that the tokenizer makes nothing of, counts as wrong, and as no entity.
        Entities are seqeval's, in its default mode, which is conlleval's (Tjong Kim Sang, De Meulder 2003).
        """
        given, true = self._words(answers, targets), targets.tags
        right = sum(sum(a == b for a, b in zip(*pair, strict=True)) for pair in zip(given, true, strict=True))
        scores: dict[str, Any] = {"accuracy": right / max(sum(map(len, true)), 1)}
        if self._entities:
            from seqeval.metrics import f1_score, precision_score, recall_score

            named = self._named(true), self._named(given)
            scores["f1"] = f1_score(*named, zero_division=0)
            scores["precision"] = precision_score(*named, zero_division=0)
            scores["recall"] = recall_score(*named, zero_division=0)
        return percent(scores)

    def decisions(self, answers: Answers, targets: Any) -> NDArray[Any]:
        """Return (words,) the class id given to each word, -1 where it was cut off."""
        return np.concatenate([np.asarray(row) for row in self._words(answers, targets)])

    def ratio(self, answers: Answers, targets: Any) -> NDArray[np.float64]:
        """Return (N, 2) by sentence, whose sums' ratio is the main metric.

        Words that are right, and words; or twice the entities that are right, and those given plus those true.
        """
        given, true = self._words(answers, targets), targets.tags
        if not self._entities:
            rows = zip(given, true, strict=True)
            right = [[sum(a == b for a, b in zip(*row, strict=True)), len(row[1])] for row in rows]
            return np.array(right, np.float64)
        from seqeval.metrics.sequence_labeling import get_entities

        counts = []
        for answer, tags in zip(self._named(given), self._named(true), strict=True):
            found, wanted = set(get_entities(answer)), set(get_entities(tags))
            counts.append([2 * len(found & wanted), len(found) + len(wanted)])
        return np.array(counts, np.float64)

    def _words(self, answers: Answers, targets: WordTags) -> list[list[int]]:
        """Return the class id given to every word; -1 to those that were not read."""
        assert isinstance(answers, Ragged)
        result = []
        for row, (starts, tags) in enumerate(zip(targets.pieces, targets.tags, strict=True)):
            given = np.full(len(tags), -1)
            read = np.flatnonzero(starts >= 0)
            given[read] = answers[row][starts[read]].argmax(-1)
            result.append(given.tolist())
        return result

    def _named(self, ids: list[list[int]]) -> list[list[str]]:
        return [["O" if number < 0 else self.task.labels[number] for number in row] for row in ids]


def spaced(words: list[list[str]], tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """Put a space before each word but the first where the tokenizer holds spaces to be part of words.

    RoBERTa's and GPT-2's do, and would read words without one as parts of one long word.
    """
    probe = tokenizer([["a", "a"]], is_split_into_words=True, add_special_tokens=False)
    joined = tokenizer(["a a"], add_special_tokens=False)
    if probe["input_ids"] == joined["input_ids"]:
        return words
    return [[word if place == 0 else f" {word}" for place, word in enumerate(row)] for row in words]


def _or_next(span: Span | None, after: Span | None) -> Span | None:
    """Return the span, or the next one where it has no characters and both begin the same word."""
    if span is None or after is None or span[1] < span[2]:
        return span
    return after if span[:2] == after[:2] else span


def _first_pieces(word_ids: list[int | None]) -> NDArray[np.int64]:
    """Return the position of each word's first piece, up to the last word that was read; -1 for one without."""
    last = max((word for word in word_ids if word is not None), default=-1)
    starts = np.full(last + 1, -1, np.int64)
    for position, word in reversed(list(enumerate(word_ids))):
        if word is not None:
            starts[word] = position
    return starts
