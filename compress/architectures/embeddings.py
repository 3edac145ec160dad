"""The table that a model looks its token ids up in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from compress.errors import InputError
from compress.layers import LowRankEmbedding, SharedEmbedding

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def innermost_table(model: PreTrainedModel) -> nn.Embedding:
    """Return the table of a model's token embeddings; of a shared or a low-rank embedding the inner one.

    Raises:
        InputError: there is no float table.
    """
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:  # it reads characters or images
        table = None
    while isinstance(table, LowRankEmbedding | SharedEmbedding):
        table = table.table
    if not isinstance(table, nn.Embedding):
        raise _not_plain(model, table)
    return table


def token_table(model: PreTrainedModel) -> tuple[str, nn.Embedding]:
    """Return the full name and the module of `innermost_table`, where nothing else reads its weight.

    Raises:
        InputError: it does more than look up, or its weight has other users (a language model's head, the
            other half of an encoder and decoder).
    """
    table = innermost_table(model)
    if type(table) is not nn.Embedding:  # BART's scales what it looks up
        raise _not_plain(model, table)
    users: list[str] = [
        name for name, module in model.named_modules(remove_duplicate=False) if _uses(module, table)
    ]
    if len(users) > 1:
        raise InputError(
            f"the table is tied: {', '.join(users)} read the same weight, which would be untied",
            place=users[0],
            remedy="Leave the embedding as it is; `vocabulary` with rare: split makes tied tables smaller.",
        )
    return users[0], table


def _not_plain(model: PreTrainedModel, table: nn.Module | None) -> InputError:
    return InputError(
        f"the input embedding is {type(table).__name__}, not a plain table",
        place=model.config.model_type,
        remedy="Leave the embedding as it is; put vocabulary and factorize before quantize.",
    )


def _uses(module: nn.Module, table: nn.Embedding) -> bool:
    return any(parameter is table.weight for parameter in module.parameters(recurse=False))
