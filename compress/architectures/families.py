"""The one table of where a model family keeps its layers, attention and feed-forward parts.

A family without a row gets one by `discovery.py`. Names of layers are relative to the base model
(`model.base_model`), names of parts to one layer. What a layer does not have (a cross-attention, a gate) is
passed over, so that one row can name all its family's variants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.errors import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Heads:
    """One attention of a layer.

    Attributes:
        module: the module that splits into heads.
        query, key, value: linear modules inside `module`. A name given more than once is a fused projection,
            its parts in this order.
        output: the linear module, inside the layer, that mixes the heads.
        per_head: whether a fused projection is laid out head by head instead of part by part.
        beside: further projections inside `module` that come by head.
        bias: `shared` where the encoder hands one position bias to all its layers, `first` where the first
            layer computes it and the others get it.
        obstacle: why heads cannot be removed; empty where they can.
    """

    module: str
    query: str
    key: str
    value: str
    output: str
    per_head: bool = False
    beside: tuple[str, ...] = ()
    bias: str = ""
    obstacle: str = ""


@dataclass(frozen=True)
class Neurons:
    """One feed-forward part of a layer; `*` stands for every index of a list.

    Attributes:
        inputs: the linear module that makes the neurons, or two where one gates the other; the same name
            twice where both are fused.
        output: the linear module that reads them.
        obstacle: why neurons cannot be removed; empty where they can.
    """

    inputs: tuple[str, ...]
    output: str
    obstacle: str = ""


@dataclass(frozen=True)
class Stack:
    """A run of layers of the same kind.

    Attributes:
        layers: the `ModuleList` of layers; `*` stands for every index of a list.
        heads, neurons: the parts of a layer.
        layer_count: the config's attribute for the number of layers.
        shared: whether all layers are the same module, so that the config alone decides their number.
    """

    layers: str
    heads: tuple[Heads, ...]
    neurons: tuple[Neurons, ...]
    layer_count: str = "num_hidden_layers"
    shared: bool = False


@dataclass(frozen=True)
class Family:
    """Where one model family keeps its parts.

    Attributes:
        stacks: the encoder's layers, the decoder's, or both in this order.
    """

    stacks: tuple[Stack, ...]

    @property
    def layer_count(self) -> str:
        """The config's attribute for the number of layers of the first stack."""
        return self.stacks[0].layer_count


def _bert(layers: str = "encoder.layer", neurons: tuple[Neurons, ...] = (), **heads: Any) -> Stack:
    names = {"query": "query", "key": "key", "value": "value"} | heads
    self_attention = Heads("attention.self", output="attention.output.dense", **names)
    cross_attention = Heads("crossattention.self", output="crossattention.output.dense", **names)
    last = Neurons(("intermediate.dense",), "output.dense")
    return Stack(layers, (self_attention, cross_attention), (*neurons, last))


def _projections(module: str, output: str = "out_proj", **more: Any) -> Heads:
    return Heads(module, "q_proj", "k_proj", "v_proj", f"{module}.{output}", **more)


_BERT = Family((_bert(),))
_GATED = (Neurons(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),)
_LLAMA = Family((Stack("layers", (_projections("self_attn", "o_proj"),), _GATED),))
_FC = (Neurons(("fc1",), "fc2"),)


def _t5(stack: str, layer_count: str) -> Stack:
    # An encoder's layers are attention and feed-forward, a decoder's have cross-attention in between.
    def heads(sublayer: str) -> Heads:
        return Heads(sublayer, "q", "k", "v", f"{sublayer}.o", bias="first")

    neurons = [
        Neurons(inputs, f"layer.{index}.DenseReluDense.wo")
        for index in (1, 2)
        for inputs in (
            (f"layer.{index}.DenseReluDense.wi",),
            (f"layer.{index}.DenseReluDense.wi_0", f"layer.{index}.DenseReluDense.wi_1"),
        )
    ]
    attentions = (heads("layer.0.SelfAttention"), heads("layer.1.EncDecAttention"))
    return Stack(f"{stack}.block", attentions, tuple(neurons), layer_count)


_T5 = Family((_t5("encoder", "num_layers"), _t5("decoder", "num_decoder_layers")))

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": Family(
        (
            Stack(
                "transformer.layer",
                (Heads("attention", "q_lin", "k_lin", "v_lin", "attention.out_lin"),),
                (Neurons(("ffn.lin1",), "ffn.lin2"),),
                "n_layers",
            ),
        )
    ),
    "mpnet": Family(
        (
            Stack(
                "encoder.layer",
                (Heads("attention.attn", "q", "k", "v", "attention.attn.o", bias="shared"),),
                (Neurons(("intermediate.dense",), "output.dense"),),
            ),
        )
    ),
    "albert": Family(
        (
            Stack(
                "encoder.albert_layer_groups.*.albert_layers",
                (Heads("attention", "query", "key", "value", "attention.dense"),),
                (Neurons(("ffn",), "ffn_output"),),
                shared=True,
            ),
        )
    ),
    "deberta-v2": Family(
        (
            _bert(
                query="query_proj",
                key="key_proj",
                value="value_proj",
                beside=("pos_key_proj", "pos_query_proj"),
            ),
        )
    ),
    "mobilebert": Family((_bert(neurons=(Neurons(("ffn.*.intermediate.dense",), "ffn.*.output.dense"),)),)),
    "modernbert": Family(
        (
            Stack(
                "layers",
                (Heads("attn", "Wqkv", "Wqkv", "Wqkv", "attn.Wo"),),
                (Neurons(("mlp.Wi", "mlp.Wi"), "mlp.Wo"),),
            ),
        )
    ),
    "gpt2": Family(
        (
            Stack(
                "h",
                (
                    Heads("attn", "c_attn", "c_attn", "c_attn", "attn.c_proj"),
                    Heads("crossattention", "q_attn", "c_attn", "c_attn", "crossattention.c_proj"),
                ),
                (Neurons(("mlp.c_fc",), "mlp.c_proj"),),
                "n_layer",
            ),
        )
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "smollm3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "opt": Family((Stack("decoder.layers", (_projections("self_attn"),), _FC),)),
    "t5": _T5,
    "mt5": _T5,
    "bart": Family(
        (
            Stack("encoder.layers", (_projections("self_attn"),), _FC, "encoder_layers"),
            Stack(
                "decoder.layers",
                (_projections("self_attn"), _projections("encoder_attn")),
                _FC,
                "decoder_layers",
            ),
        )
    ),
}

# Families that count positions from the one after the pad id, RoBERTa's heirs.
_POSITIONS_AFTER_PAD = {
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
}


def layer_count_of(config: PretrainedConfig) -> int:
    """Return how many layers the config asks for, of the first stack where there are several.

    Raises:
        InputError: the config of a family without a row does not say.
    """
    count = getattr(config, _count_name(config), None)
    if not isinstance(count, int):
        raise InputError(
            f"the config of {config.model_type!r} does not say how many layers it has",
            place="model",
            remedy="Layers can be counted where the config has num_hidden_layers.",
        )
    return count


def set_layer_count(config: PretrainedConfig, count: int) -> None:
    """Let the config ask for `count` layers, where `layer_count_of` reads them.

    Raises:
        InputError: the config does not let its number of layers be set.
    """
    try:
        setattr(config, _count_name(config), count)
    except NotImplementedError as error:  # Funnel counts blocks of layers
        raise InputError(
            f"layers of {config.model_type} cannot be dropped: its config does not let their number be set",
            place="layers",
            remedy="Prune heads, neurons or the hidden width.",
        ) from error


def _count_name(config: PretrainedConfig) -> str:
    family = FAMILIES.get(config.model_type)
    return "num_hidden_layers" if family is None else family.layer_count


def positions_of(config: PretrainedConfig) -> int | None:
    """Return how many tokens the model has positions for, None where its config sets no bound."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is not None and positions < 1:  # XLNet's way to say so
        return None
    if positions is not None and config.model_type in _POSITIONS_AFTER_PAD:
        positions -= config.pad_token_id + 1
    return positions


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the model's transformer layers in order, the encoder's where it has a decoder too.

    ALBERT's is the list of those that all its layers share.

    Raises:
        InputError: the family has no row and no layers can be found.
    """
    from torch import nn

    from compress.architectures.reading import layer_names, row_of

    names = next(names for stack in row_of(model).stacks if (names := layer_names(model, stack)))
    layers = model.get_submodule(names[0].rpartition(".")[0])
    assert isinstance(layers, nn.ModuleList)
    return layers
