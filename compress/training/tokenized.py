"""Text and labels as a model reads them, on disk: memory stays flat, and all with the same tokenizer share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from compress.data.token_store import TokenStore, build_tokens
from compress.manifest import hash_json
from compress.tasks.kind import IGNORED
from compress.tasks.ragged import Labels, Ragged, offsets_of
from compress.training.examples import Examples

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from compress.data import TextData
    from compress.tasks import Task


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what stands for all that a tokenizer does with a text, whatever length it was last asked to cut at."""
    if not tokenizer.is_fast:
        return repr(tokenizer)
    # Truncation and padding of the last call come first in the file, and are not the tokenizer's own, but for the side.
    own = str(tokenizer.backend_tokenizer.to_str()).partition('"added_tokens"')[2]
    return own if tokenizer.truncation_side == "right" else f"{own} from the {tokenizer.truncation_side}"


def tokenized(
    data: datasets.Dataset, fingerprint: str, tokenizer: PreTrainedTokenizerBase, task: Task
) -> TokenStore:
    """Return a split's inputs, and its labels where it has any.

    Args:
        data: the split.
        fingerprint: stands for its content.
        tokenizer: the model's.
        task: as what it is read.
    """

    def encode(chunk: datasets.Dataset) -> tuple[list[dict[str, list[int]]], Labels | None]:
        encoded = task.encode(chunk, tokenizer)
        labelled = "label" in chunk.column_names or task.rules.labels_itself
        return encoded.inputs, encoded.labels if labelled else None

    known = [fingerprint, vocabulary(tokenizer), tokenizer.model_input_names, task.model_dump(mode="json")]
    return build_tokens(data, encode, hash_json(known)[:32])


def training_examples(data: TextData, tokenizer: PreTrainedTokenizerBase, task: Task) -> Examples:
    """Return the training split of data, labels in the task's order."""
    store = tokenized(data.train, f"{data.fingerprint}/train", tokenizer, task)
    first = task.encode(data.train.select([0]), tokenizer)
    labels = labels_of(store, len(store) // first.parts, task, first.labels[0])
    return Examples(store, labels, first.parts)


def labels_of(store: TokenStore, count: int, task: Task, like: Any) -> Labels:
    """Return the labels of a split, or as many that say nothing, which are one number in memory.

    Args:
        store: the split.
        count: examples in it.
        task: whether each token has a label.
        like: the label of any example.
    """
    if store.labels is not None:
        return store.labels
    like = np.asarray(like)
    nothing = np.asarray(IGNORED if like.dtype.kind == "i" else np.nan, like.dtype)
    if not task.labels_per_token:
        return np.broadcast_to(nothing, (count, *like.shape))
    offsets = offsets_of(store.lengths)
    return Ragged(np.broadcast_to(nothing, (int(offsets[-1]),)), offsets)
