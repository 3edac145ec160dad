"""Masked language modelling: words of raw text that are hidden and to be told from their neighbours."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.errors import InputError
from compress.tasks.inputs import encode_text
from compress.tasks.kind import IGNORED, Answers, Encoded, Kind, Scores, class_loss
from compress.tasks.ragged import Ragged
from compress.tasks.spans import InputSpans

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

CHOSEN = 0.15  # of the tokens are to be told
MASKED, REPLACED = 0.8, 0.1  # of these; the rest stay as they are
SEED = 0


class Language(Kind):
    """One word of the vocabulary for each hidden token.

    Of every text 15% of the tokens are chosen, of which 80% become the mask, 10% another token at random and 10%
    stay (Devlin et al. 2019, section 3.1). What is chosen depends on the text's tokens alone, so that a run that
    is taken up again, and every model with the same tokenizer, sees the same, whatever part of the data it reads.
    """

    auto_class = "AutoModelForMaskedLM"
    per_token = labels_per_token = outputs_per_token = True
    labels_itself = condenses = True
    main_metric = "accuracy"

    def head_config(self) -> dict[str, Any]:
        """Return nothing: the head is as wide as the vocabulary."""
        return {}

    def encode(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Read "text"; labels and targets are the hidden tokens' ids, int64 (T,), -100 for all others.

        Raises:
            InputError: the tokenizer has no mask.
        """
        if tokenizer.mask_token_id is None:
            raise InputError(
                "the tokenizer has no mask token, so no word can be hidden",
                place=type(tokenizer).__name__,
                remedy="Masked language modelling is for encoders as BERT; give such a model.",
            )
        inputs = encode_text(data, tokenizer, self.task)
        special = np.array(sorted(tokenizer.all_special_ids))
        labels = [_hide(row, special, tokenizer.mask_token_id, len(tokenizer)) for row in inputs]
        targets = Ragged.of(labels)
        return Encoded(inputs, targets, targets)

    def spans(self, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> list[InputSpans]:
        """Refuse: what is hidden, and the words to choose among, are the tokenizer's own."""
        raise InputError(
            "teacher and student are to tell different words: their tokenizers or their max_length differ",
            place=type(tokenizer).__name__,
            remedy="Take a student with the teacher's tokenizer, and the teacher's max_length.",
        )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of logits (B, T, V) and ids (B, T), the mean over hidden tokens."""
        hidden = labels != IGNORED  # most are not, and a vocabulary is wide
        return class_loss(logits[hidden], labels[hidden])

    def condense(self, answer: Tensor, labels: Tensor) -> Tensor:
        """Return what `metrics` reads of logits (tokens, V): log-probability of the hidden token, and if it is first.

        A vocabulary's logits for every token of a data set would not fit in memory.

        Args:
            answer: logits (tokens, V).
            labels: ids (tokens,), -100 where nothing was hidden.

        Returns:
            (tokens, 2) float32, zeros where nothing was hidden.
        """
        hidden = labels != IGNORED
        found = answer.new_zeros((len(labels), 2), dtype=torch.float32)
        logits, ids = answer[hidden].float(), labels[hidden]
        found[hidden, 0] = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
        found[hidden, 1] = (logits.argmax(-1) == ids).float()
        return found

    def metrics(self, answers: Answers, targets: Any) -> Scores:
        """Return the share of hidden tokens that are told right, in percent, and the perplexity.

        Args:
            answers: what `condense` gives, rows of (tokens, 2).
            targets: ids of hidden tokens, -100 for others.
        """
        assert isinstance(answers, Ragged)
        found = answers.values[targets.values != IGNORED]
        if len(found) == 0:
            return {"accuracy": 0.0, "perplexity": math.inf}
        return {
            "accuracy": 100 * float(found[:, 1].mean()),
            "perplexity": math.exp(-float(found[:, 0].mean())),
        }


def _hide(
    row: dict[str, list[int]], special: NDArray[np.int64], mask: int, vocabulary: int
) -> NDArray[np.int64]:
    """Hide tokens of an input, in place; return their ids, -100 for all others."""
    ids = np.array(row["input_ids"], np.int64)
    generator = np.random.default_rng((SEED, zlib.crc32(ids.tobytes())))
    ordinary = np.flatnonzero(~np.isin(ids, special))
    labels = np.full(len(ids), IGNORED, np.int64)
    if len(ordinary):
        count = max(1, round(CHOSEN * len(ordinary)))
        chosen = generator.choice(ordinary, count, replace=False)
        labels[chosen] = ids[chosen]
        fate = generator.random(count)
        ids[chosen[fate < MASKED]] = mask
        others = chosen[(fate >= MASKED) & (fate < MASKED + REPLACED)]
        words = np.setdiff1d(np.arange(vocabulary), special)
        ids[others] = generator.choice(words, len(others))
    row["input_ids"] = ids.tolist()
    return labels
