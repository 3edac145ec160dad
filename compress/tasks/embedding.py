"""Sentence embeddings: a vector of a text, whose cosine with another says how alike the two mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from compress.tasks.inputs import rows_of
from compress.tasks.kind import Answers, Encoded, Kind, Scores, labelled_mean
from compress.tasks.ragged import Ragged
from compress.tasks.sequence import correlations
from compress.tasks.spans import InputSpans, spans_of

if TYPE_CHECKING:
    import datasets
    from transformers import BatchEncoding, PreTrainedTokenizerBase


class Embedding(Kind):
    """The mean of a bare encoder's last hidden states over the text's tokens, brought to length 1.

    As Sentence-BERT pools (Reimers, Gurevych 2019, section 3). The model and its ONNX file stay plain encoders
    that answer `last_hidden_state`, which optimum, sentence-transformers and transformers.js pool themselves.
    """

    compared = "cosines"
    auto_class = "AutoModel"
    outputs_per_token = True
    main_metric = "spearman"

    def head_config(self) -> dict[str, Any]:
        """Return nothing: there is no head."""
        return {}

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Read "text", and "text_pair" with scores in [0, 1], as one input each.

        Of pairs, inputs 2i and 2i + 1 are example i; labels and targets are float32 (N,). Single texts have no
        labels.
        """
        paired = "text_pair" in data.column_names
        inputs = rows_of(self._read(_texts(data), tokenizer))
        given = data["label"] if paired and "label" in data.column_names else [np.nan] * len(data)
        labels = np.asarray(given, np.float32)
        return Encoded(inputs, labels, labels, parts=2 if paired else 1)

    def spans(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> list[InputSpans]:
        """Return where in its text each token stands; both texts of a pair are inputs of their own."""
        texts = _texts(data)
        encoded = self._read(texts, tokenizer, return_offsets_mapping=True)
        return [
            InputSpans(row, spans_of(encoded, row, encoded.sequence_ids(row), (text,)))
            for row, text in enumerate(texts)
        ]

    def _read(self, texts: list[str], tokenizer: PreTrainedTokenizerBase, **options: bool) -> BatchEncoding:
        encoded: BatchEncoding = tokenizer(
            texts, truncation=True, max_length=self.task.max_length, padding=False, **options
        )
        return encoded

    def answer(self, output: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the vectors (B, H) of length 1."""
        mask = inputs["attention_mask"][..., None].to(output.last_hidden_state.dtype)
        return normalize((output.last_hidden_state * mask).sum(1) / mask.sum(1), dim=-1)

    def from_outputs(self, outputs: Answers) -> Answers:
        """Return the vectors (inputs, H) of hidden states by token; see `answer`."""
        assert isinstance(outputs, Ragged)
        means = np.stack([outputs[row].mean(0) for row in range(len(outputs))])
        vectors: NDArray[Any] = means / np.linalg.norm(means, axis=-1, keepdims=True)
        return vectors

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the squared error of cosines against scores, as Reimers, Gurevych 2019 train on STS.

        Args:
            logits: vectors (2B, H) of length 1, those of a pair one after the other; or (B, H) of single texts.
            labels: (B,) in [0, 1], NaN for a pair without a score.
        """
        if len(logits) != 2 * len(labels):
            return logits.sum() * 0
        cosines = (logits[0::2] * logits[1::2]).sum(-1)
        return labelled_mean((cosines - labels.nan_to_num()).square(), ~labels.isnan())

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Return the correlations of the pairs' cosines with their scores, in [-1, 1]."""
        return correlations(cosines_of(answers), targets)


def _texts(data: datasets.Dataset) -> list[str]:
    """Return the texts, those of a pair one after the other."""
    if "text_pair" not in data.column_names:
        return list(data["text"])
    return [text for pair in zip(data["text"], data["text_pair"], strict=True) for text in pair]


def cosines_of(answers: Answers) -> NDArray[Any]:
    """Return the cosines (N,) of vectors (2N, H) of length 1, those of a pair one after the other."""
    vectors = np.asarray(answers)
    cosines: NDArray[Any] = (vectors[0::2] * vectors[1::2]).sum(-1)
    return cosines
