"""Taking attention heads and feed-forward neurons out of a model's linear layers, in place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.architectures.blocks import Attention, FeedForward, Rows
from compress.errors import InputError
from compress.layers.bias_heads import BiasHeads
from compress.layers.dense import as_linear
from compress.layers.low_rank import LowRankLinear, saves

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What attention modules call their number of query heads, of key-value heads, and the width of all query heads.
_QUERY_HEADS = {"num_heads", "n_heads", "num_attention_heads", "n_head"}
_KEY_HEADS = {"num_key_value_heads", "num_kv_heads"}
_WIDTHS = {"all_head_size", "inner_dim", "split_size", "embed_dim"}


def keep_heads(model: PreTrainedModel, attention: Attention, units: Sequence[int]) -> None:
    """Keep only `units` of one attention: heads, or key-value heads with all the query heads that read them.

    Their rows of query, key and value with the biases stay, and their columns of the output projection. What
    is left computes what the full model computes with the other units' outputs set to zero.

    Args:
        model: changed in place; its blocks have to be read anew.
        attention: a part of `blocks(model)`.
        units: ascending indices among those present.

    Raises:
        InputError: the attention has an obstacle, the units are none or not among those present, or a module
            is not a float linear layer.
    """
    _check(attention.name, attention.obstacle, units, attention.units)
    rows = (attention.query, attention.key, attention.value, *attention.beside)
    _keep(model, rows, attention.output, attention.units, units)
    module, heads = model.get_submodule(attention.name), attention.unit_width // attention.head_size
    _adjust(module, _QUERY_HEADS, heads * attention.units, heads * len(units))
    _adjust(module, _KEY_HEADS, attention.units, len(units))
    _adjust(module, _WIDTHS, attention.unit_width * attention.units, attention.unit_width * len(units))
    if attention.shared_bias:
        earlier = getattr(module, BiasHeads.NAME, BiasHeads(attention.units, list(range(attention.units))))
        BiasHeads(earlier.total, [earlier.heads[unit] for unit in units]).attach(module)


def keep_neurons(model: PreTrainedModel, feed_forward: FeedForward, neurons: Sequence[int]) -> None:
    """Keep only `neurons` of one feed-forward part of `blocks(model)`, ascending among those present.

    Raises:
        InputError: the part has an obstacle, the neurons are none or not among those present, or a module is
            not a float linear layer.
    """
    _check(feed_forward.output, feed_forward.obstacle, neurons, feed_forward.units)
    _keep(model, feed_forward.inputs, feed_forward.output, feed_forward.units, neurons)


def _check(name: str, obstacle: str, kept: Sequence[int], present: int) -> None:
    if obstacle:
        raise InputError(
            f"nothing can be removed here: {obstacle}", place=name, remedy="Prune other parts of the model."
        )
    if not kept:
        raise InputError("nothing would be left", place=name, remedy="Lower the share to prune.")
    if list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= present:
        raise InputError(
            f"cannot keep units {list(kept)[:8]} of {present}",
            place=name,
            remedy=f"Give ascending indices from 0 to {present - 1}.",
        )


def _keep(
    model: PreTrainedModel, made: Iterable[Rows], output: str, present: int, kept: Sequence[int]
) -> None:
    """Slice the modules that make the units and the one that reads them; refuse before anything changes."""
    outputs: dict[str, list[Tensor]] = defaultdict(list)
    for rows in made:
        outputs[rows.module].append(rows.of_units(kept, present))
    for name in (*outputs, output):
        _prepare(model, name)
    for name, parts in outputs.items():
        _slice(model, name, torch.cat(parts).sort().values, outputs=True)
    columns = Rows(output, 0, model.get_submodule(output).in_features)  # type: ignore[arg-type]
    _slice(model, output, columns.of_units(kept, present), outputs=False)


def _prepare(model: PreTrainedModel, name: str) -> None:
    """Make a module one that can be sliced; raises InputError where it cannot."""
    module = model.get_submodule(name)
    if not isinstance(module, LowRankLinear):
        model.set_submodule(name, as_linear(module, name))


def _slice(model: PreTrainedModel, name: str, index: Tensor, outputs: bool) -> None:
    """Keep rows (`outputs`) or columns `index` of the matrix a module stands for.

    Of a low-rank pair only the outer factor changes; where the pair has become larger than the matrix it
    stands for, the matrix takes its place.
    """
    module = model.get_submodule(name)
    if isinstance(module, LowRankLinear):
        _slice_linear(module.second if outputs else module.first, index, outputs)
        module.in_features, module.out_features = module.first.in_features, module.second.out_features
        if not saves(module.rank, module.in_features, module.out_features):
            model.set_submodule(name, module.dense())
    else:
        assert isinstance(module, nn.Linear)
        _slice_linear(module, index, outputs)


def _slice_linear(linear: nn.Linear, index: Tensor, outputs: bool) -> None:
    grad, index = linear.weight.requires_grad, index.to(linear.weight.device)
    weight = linear.weight.detach().index_select(0 if outputs else 1, index)
    linear.weight = nn.Parameter(weight, requires_grad=grad)
    if outputs and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.detach()[index], requires_grad=grad)
    linear.out_features, linear.in_features = weight.shape


def _adjust(module: nn.Module, names: set[str], old: int, new: int) -> None:
    """Set the attributes of those names that said `old`: a forward pass may reshape by them."""
    for name in names & vars(module).keys():
        if type(value := getattr(module, name)) is int and value == old:
            setattr(module, name, new)
