"""The one table of where a model family keeps its layers, attention, feed-forward, embeddings and head.

Names are relative: `layers` and `embeddings` to the base model (`model.base_model`), the rest to one layer.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.errors import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Family:
    """Where one model family keeps its parts.

    Attributes:
        layers: the `ModuleList` of layers.
        layer_count: the config's attribute for their number.
        query, key, value, attention_output: the four projections of a layer.
        ffn_in, ffn_out: the two linear layers of the feed-forward part.
        embeddings: the module that holds all embedding tables.
        head_size: the attribute of the projections' parent that gives one head's width.
        prunable_heads: False where other weights are tied to the number of heads.
        positions_after_pad: True where positions are counted from the one after the pad id.
    """

    layers: str
    layer_count: str
    query: str
    key: str
    value: str
    attention_output: str
    ffn_in: str
    ffn_out: str
    embeddings: str = "embeddings"
    head_size: str = "attention_head_size"
    prunable_heads: bool = True
    positions_after_pad: bool = False


# The six linear modules of a layer, by their field in `Family`.
MATRICES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")

_BERT = Family(
    layers="encoder.layer",
    layer_count="num_hidden_layers",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    ffn_in="intermediate.dense",
    ffn_out="output.dense",
)

_ROBERTA = dataclasses.replace(_BERT, positions_after_pad=True)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": _BERT,
    "distilbert": Family(
        layers="transformer.layer",
        layer_count="n_layers",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        ffn_in="ffn.lin1",
        ffn_out="ffn.lin2",
    ),
    # MPNet adds one relative position bias per head, shared by all layers: heads cannot go layer by layer.
    "mpnet": Family(
        layers="encoder.layer",
        layer_count="num_hidden_layers",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        ffn_in="intermediate.dense",
        ffn_out="output.dense",
        prunable_heads=False,
        positions_after_pad=True,
    ),
}


def family_of(config: PretrainedConfig) -> Family:
    """Return the row for `config.model_type`.

    Raises:
        InputError: the family has no row.
    """
    try:
        return FAMILIES[config.model_type]
    except KeyError:
        raise InputError(
            f"model family {config.model_type!r} has no row in the architecture table",
            place="model",
            remedy=f"Families that can be changed layer by layer: {', '.join(FAMILIES)}.",
        ) from None


def positions_of(config: PretrainedConfig) -> int | None:
    """Return how many tokens the model has positions for, None where its config sets no bound."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    family = FAMILIES.get(config.model_type)
    if positions is not None and family is not None and family.positions_after_pad:
        positions -= config.pad_token_id + 1
    return positions


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the model's transformer layers, in order."""
    layers = model.base_model.get_submodule(family_of(model.config).layers)
    from torch import nn

    assert isinstance(layers, nn.ModuleList)
    return layers


def layers_prefix(model: PreTrainedModel) -> str:
    """Return the full name of the list of layers, as `model.named_modules()` spells it."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return prefix + family_of(model.config).layers


def matrices_of(model: PreTrainedModel) -> list[dict[str, str]]:
    """Return the full names of every layer's six linear modules, keyed by `MATRICES`."""
    family, prefix = family_of(model.config), layers_prefix(model)
    return [
        {matrix: f"{prefix}.{index}.{getattr(family, matrix)}" for matrix in MATRICES}
        for index in range(len(layers_of(model)))
    ]


def head_size_of(model: PreTrainedModel) -> int:
    """Return the width of one attention head; pruning whole heads leaves it as it is."""
    family = family_of(model.config)
    attention = layers_of(model)[0].get_submodule(family.query.rpartition(".")[0])
    return int(getattr(attention, family.head_size))


def head_counts(model: PreTrainedModel) -> list[int]:
    """Return each layer's number of heads, read off its projections: after pruning the config's is wrong."""
    size = head_size_of(model)
    return [_width(model, names["value"]) // size for names in matrices_of(model)]


def ffn_widths(model: PreTrainedModel) -> list[int]:
    """Return each layer's number of feed-forward neurons, read off its modules."""
    return [_width(model, names["ffn_in"]) for names in matrices_of(model)]


def _width(model: PreTrainedModel, name: str) -> int:
    width = model.get_submodule(name).out_features
    assert isinstance(width, int)
    return width
