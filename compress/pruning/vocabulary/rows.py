"""A model's tables with fewer rows: input embeddings, output heads and everything else of the vocabulary's size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.architectures.embeddings import innermost_table
from compress.errors import InputError
from compress.layers import Layer, LowRankEmbedding
from compress.structure import skeleton

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What modules remember of the vocabulary besides the shapes of their tensors.
_REMEMBERED = ("num_embeddings", "out_features", "padding_idx", "vocab_size")


def keep_rows(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep only the rows `kept` of everything in `model` that has one per piece, in place, and fix its config.

    What that is, the family itself says: its empty model is built with the old and with the new `vocab_size`,
    and whatever differs in shape is cut along the axis that differs. Tied tensors stay tied. Ids of special
    tokens in the config and the generation config follow.

    Args:
        model: any transformers model.
        kept: ids that stay, ascending.

    Raises:
        InputError: a table is int8 or shared by several ids, or has not `config.vocab_size` rows.
    """
    rows = innermost_table(model).num_embeddings
    if rows != ids_of(model):
        raise InputError(
            "rows of the embedding are shared by several ids",
            place="model",
            remedy="Give rare: share, which can leave fewer still.",
        )
    if model.config.vocab_size != rows:
        raise InputError(
            f"the embedding has {rows} rows, the config says {model.config.vocab_size}",
            place="model",
            remedy="Resize the embedding with transformers' resize_token_embeddings and save it again.",
        )
    old = skeleton(model)
    _renumber_configs(model, {index: row for row, index in enumerate(kept)}, len(kept))
    new = skeleton(model)
    shapes = dict(_tensors(new))
    axes = {
        name: next(axis for axis, size in enumerate(tensor.shape) if size != shapes[name].shape[axis])
        for name, tensor in _tensors(old)
        if tensor.shape != shapes[name].shape
    }
    index = torch.tensor(list(kept), device=model.device)
    done: dict[int, Tensor] = {}
    for name, axis in axes.items():
        module = _plain(model, name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        tensor = getattr(module, leaf)
        if id(tensor) not in done:
            done[id(tensor)] = _selected(tensor, axis, index)
        setattr(module, leaf, done[id(tensor)])
    before, after = _modules(old), _modules(new)
    for name, module in model.named_modules(remove_duplicate=False):
        for fact in _REMEMBERED if name in after else ():
            value = getattr(after[name], fact, None)
            if value != getattr(before[name], fact, None):
                setattr(_table(module), fact, value)


def ids_of(model: PreTrainedModel) -> int:
    """Return how many ids the input embedding knows; shared rows are fewer."""
    embedding: Any = model.get_input_embeddings()
    return int(embedding.num_embeddings)


def counts_positions_from_pad(model: PreTrainedModel) -> bool:
    """Say whether positions start after the id of the padding token, as in RoBERTa, so that it must not change.

    Such a model gives the padding id to a table, or to the module that makes the position ids, besides the
    embedding of the pieces.
    """
    table = innermost_table(model).weight
    return any(
        getattr(module, "padding_idx", None) is not None and getattr(module, "weight", None) is not table
        for module in model.modules()
        if [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    )


def named_in_configs(model: PreTrainedModel) -> set[int]:
    """Return the ids of pieces that the config and the generation config name."""
    seen = set[int]()

    def note(index: int) -> int:
        seen.add(index)
        return index

    for config in _configs(model):
        for value in _id_fields(config).values():
            _mapped(value, note)
    return {index for index in seen if 0 <= index < model.config.vocab_size}


def _selected(tensor: Tensor, axis: int, index: Tensor) -> Tensor:
    chosen = tensor.detach().index_select(axis, index)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(chosen, requires_grad=tensor.requires_grad)
    return chosen


def _plain(model: PreTrainedModel, name: str) -> nn.Module:
    try:
        module = _table(model.get_submodule(name))
    except AttributeError:
        module = None
    if module is None or isinstance(module, Layer):
        raise InputError(
            "it is not a plain table any more",
            place=name,
            remedy="Put vocabulary before quantize.",
        )
    return module


def _table(module: nn.Module) -> nn.Module:
    """Return the part of a module that has a row for each piece: a low-rank embedding's is its thin table."""
    return module.table if isinstance(module, LowRankEmbedding) else module


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    return dict(model.named_modules(remove_duplicate=False))


def _configs(model: PreTrainedModel) -> list[Any]:
    """Return every config that some part of the model reads; T5's stacks have copies of their own."""
    found = [getattr(module, "config", None) for module in model.modules()]
    found.append(getattr(model, "generation_config", None))
    return list({id(config): config for config in found if config is not None}.values())


def _renumber_configs(model: PreTrainedModel, new_id: Mapping[int, int], rows: int) -> None:
    for config in _configs(model):
        if hasattr(config, "vocab_size"):
            config.vocab_size = rows
        for name, value in _id_fields(config).items():
            # An id beyond the table meant nothing before, and does so in a smaller one.
            setattr(config, name, _mapped(value, lambda index: new_id.get(index, index)))


def _id_fields(config: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(config).items()
        if name.endswith(("_token_id", "_token_ids", "suppress_tokens", "bad_words_ids"))
        and value is not None
    }


def _mapped(value: Any, new: Any) -> Any:
    if isinstance(value, list):
        return [_mapped(item, new) for item in value]
    return new(value) if isinstance(value, int) and not isinstance(value, bool) else value
