"""Random inputs that a model can read, to trace it with and to compare its answers on."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from compress.architectures import positions_of
from compress.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compress.tasks import Task

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_LONGEST = 128  # tokens, for a model without a task


def input_names(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the inputs that the tokenizer makes and the model reads, in the order of `INPUTS`."""
    reads = inspect.signature(model.forward).parameters
    return tuple(name for name in INPUTS if name in reads and name in tokenizer.model_input_names)


def output_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the outputs that make a model's answer, as transformers and its ONNX file name them."""
    if model.base_model is model:
        return ("last_hidden_state",)
    spans = type(model).__name__.endswith("ForQuestionAnswering")
    return ("start_logits", "end_logits") if spans else ("logits",)


def longest_input(model: PreTrainedModel, task: Task | None) -> int:
    """Return the most tokens that the task asks for and the model has positions for."""
    positions = positions_of(model.config) or _LONGEST
    return min(_LONGEST if task is None else task.max_length, positions)


def example(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Make rows of random tokens, padded on the tokenizer's side; no token is a pad.

    A sequence-to-sequence model answers at the end-of-sequence token, so each row ends in the only one.

    Args:
        model: gives the ids.
        tokenizer: gives the names of the inputs, the pad token and its side.
        lengths: tokens of each row, at least 1.
        generator: source of the tokens.

    Returns:
        What `input_names` names, each int64 (rows, longest).

    Raises:
        InputError: the model does not read tokens of a vocabulary.
    """
    config = model.config
    try:
        embeddings: Any = model.get_input_embeddings()
    except NotImplementedError:
        raise InputError(
            "the model has no table of token embeddings, so it cannot be tried on tokens",
            place=config.model_type,
            remedy="Models that read the ids of a tokenizer's vocabulary can be exported.",
        ) from None
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else config.pad_token_id
    eos = config.eos_token_id if config.is_encoder_decoder else None
    ordinary = torch.ones(embeddings.num_embeddings, dtype=torch.bool)
    ordinary[[token for token in (pad, config.pad_token_id, eos) if token is not None]] = False

    count, place = torch.tensor(lengths)[:, None], torch.arange(max(lengths))[None]
    left = getattr(tokenizer, "padding_side", "right") == "left"
    mask = (place >= max(lengths) - count if left else place < count).long()
    tokens = ordinary.nonzero()[:, 0]
    ids = tokens[torch.randint(len(tokens), mask.shape, generator=generator)]
    if eos is not None:
        ids[mask.cumsum(1) == count] = eos
    types = ((place >= count // 2) & (mask == 1)).long()  # a pair's second half
    if getattr(config, "type_vocab_size", 0) < 2:
        types = torch.zeros_like(types)
    values = {
        "input_ids": torch.where(mask == 1, ids, pad or 0),
        "attention_mask": mask,
        "token_type_ids": types,
    }
    return {name: values[name] for name in input_names(model, tokenizer)}
