"""Finding the parts of a family that has no row in the table, by names, shapes and proof.

Names and shapes suggest rows as the table has them. Each is then tried on a small model of the same config with
random weights: removing units has to give what silencing them gives. What fails is listed with an obstacle.
"""

from __future__ import annotations

import copy
import functools
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from compress.architectures.blocks import Attention, FeedForward
from compress.architectures.families import Family, Heads, Neurons, Stack
from compress.architectures.reading import attention_of, features, feed_forwards_of, join, layer_names
from compress.errors import InputError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# The last part of a projection's name: q, query, q_proj, to_q, q_lin, w_q, query_layer, …
_NAME = r"(?:w_?|to_|lin(?:ear)?_)?(?:{})(?:_?(?:proj|lin|linear|attn|head|layer))?"
_QUERY, _KEY, _VALUE = (
    re.compile(_NAME.format(names), re.IGNORECASE) for names in ("q|query", "k|key", "v|value")
)
_FUSED = re.compile(r"qkv|query_key_value|c_attn|in_proj|att_proj|qkv_proj", re.IGNORECASE)

_COUNTS = ("num_hidden_layers", "decoder_layers", "num_decoder_layers")

Row = TypeVar("Row", Heads, Neurons)

_found: weakref.WeakKeyDictionary[type, dict[str, Family]] = weakref.WeakKeyDictionary()


def discover(model: PreTrainedModel) -> Family:
    """Return a row for a model's family, found by structure; the answer is kept for the config.

    Raises:
        InputError: no attention or feed-forward part was found.
    """
    kind = type(model.base_model)
    rows = _found.setdefault(kind, {})
    key = model.config.to_json_string()
    if key not in rows:
        rows[key] = _discover(kind, model.config)
    return rows[key]


def _discover(kind: type, config: PretrainedConfig) -> Family:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = _small(kind, config)
        stacks = tuple(stack for layers in _lists(small) if (stack := _stack(small, layers)) is not None)
    if not stacks:
        raise InputError(
            f"no attention or feed-forward part was found in model family {config.model_type!r}",
            place="model",
            remedy="Layer-wise passes need linear projections; quantize and distill work without.",
        )
    return Family(stacks)


def _small(kind: type, config: PretrainedConfig) -> PreTrainedModel:
    """Build a model of two layers with random weights, larger where the config does not allow that."""
    total = getattr(config, "num_hidden_layers", 0)
    counts = {name: getattr(config, name, None) for name in _COUNTS}
    shorter: dict[str, Any] = {
        name: 2 for name, count in counts.items() if isinstance(count, int) and count > 2
    }
    shorter |= {
        name: value[:2]
        for name, value in vars(config).items()
        if isinstance(value, list) and len(value) == total > 2 and "layer" in name
    }
    failure = ""
    for changes in ({**shorter, "vocab_size": 64}, shorter, {}):
        smaller = copy.deepcopy(config)
        try:
            for name, value in changes.items():
                setattr(smaller, name, value)
            smaller.use_cache = False
            model: PreTrainedModel = kind(smaller).eval()
            for parameter in model.parameters():
                parameter.data.add_(0.1 * torch.randn_like(parameter))
            _run(model)
            return model
        except Exception as error:  # configs and models refuse values with errors of any kind
            failure = first_line(error)
    raise InputError(
        f"the parts of model family {config.model_type!r} cannot be found, as a model of this config does not "
        f"run on token ids ({failure})",
        place="model",
        remedy="Layer-wise passes need a model that reads text; quantize works without.",
    )


def _lists(model: nn.Module) -> list[str]:
    """Return the outermost lists of layers, `*` for the index where a list holds lists."""
    found: dict[str, None] = {}

    def visit(module: nn.Module, pattern: str) -> None:
        for name, child in module.named_children():
            below = join(pattern, "*" if isinstance(module, nn.ModuleList) else name)
            if not isinstance(child, nn.ModuleList):
                visit(child, below)
            elif all(isinstance(item, nn.ModuleList) for item in child):
                visit(child, below)
            elif any(features(part) for part in child.modules()):
                found[below] = None

    visit(model, "")
    return list(found)


def _stack(model: PreTrainedModel, layers: str) -> Stack | None:
    stack = Stack(layers, (), ())
    heads: dict[str, Heads] = {}
    neurons: dict[str, Neurons] = {}
    for index, name in enumerate(layer_names(model, stack)):
        layer = model.get_submodule(name)
        unproven = functools.partial(_unproven, model, name, index)
        linears = {inner: size for inner, part in layer.named_modules() if (size := features(part))}
        for inner, _ in layer.named_modules():
            if attention := _best(_attentions(inner, linears), unproven):
                heads.setdefault(inner, attention)
        free = {
            inner: size
            for inner, size in linears.items()
            if not any(inner == row.output or _inside(inner, row.module) for row in heads.values())
        }
        feeds = [feed for output in free if (feed := _best(_feed_forwards(output, free), unproven))]
        proven = [row for row in feeds if not row.obstacle]
        for row in proven or feeds[-1:]:
            neurons.setdefault(row.output, row)
    if not heads and not neurons:
        return None
    return replace(stack, heads=tuple(heads.values()), neurons=tuple(neurons.values()))


def _best(candidates: Iterator[Row], unproven: Callable[[Row], str]) -> Row | None:
    """Return the first candidate that holds, else the first one with the reason why it does not."""
    first: Row | None = None
    for candidate in candidates:
        reason = unproven(candidate)
        if not reason:
            return candidate
        first = first or replace(candidate, obstacle=reason)
    return first


def _attentions(module: str, linears: dict[str, tuple[int, int]]) -> Iterator[Heads]:
    """Suggest attentions whose projections stand in `module`, by names; then by shapes which output they have."""
    own = {name: inner for name in linears if (inner := _inside(name, module)) and "." not in inner}
    query, key, value = (
        next((inner for inner in own.values() if pattern.fullmatch(inner)), "")
        for pattern in (_QUERY, _KEY, _VALUE)
    )
    fused = next((inner for inner in own.values() if _FUSED.search(inner)), "")
    if query and key and value:
        parts = (query, key, value)
    elif fused and not key:
        parts = (fused, fused, fused)
    else:
        return
    width, total = linears[join(module, parts[0])]
    outputs = [
        name
        for name, (inputs, outputs) in linears.items()
        if name not in {join(module, part) for part in parts}
        and outputs == width
        and (inputs == total if parts[1] != parts[0] else inputs < total)
    ]
    for output in sorted(outputs, key=lambda name: -_common(name, module))[:3]:
        for per_head in (False, True) if fused in parts else (False,):
            yield Heads(module, *parts, output, per_head=per_head)


def _feed_forwards(output: str, linears: dict[str, tuple[int, int]]) -> Iterator[Neurons]:
    """Suggest what feeds `output`: one module of its width or two, or one of twice its width."""
    units, width = linears[output]
    inputs = [
        name for name, (i, o) in linears.items() if name != output and i == width and o in (units, 2 * units)
    ]
    near = max((_common(name, output) for name in inputs), default=0)
    inputs = [name for name in inputs if _common(name, output) == near]
    single = [name for name in inputs if linears[name][1] == units]
    double = [name for name in inputs if linears[name][1] == 2 * units]
    if len(single) == 2:
        yield Neurons((single[0], single[1]), output)
    for name in single[:3]:
        yield Neurons((name,), output)
    for name in double[:2]:
        yield Neurons((name, name), output)


def _inside(name: str, module: str) -> str:
    """Return the name relative to `module`; empty where it is not below it."""
    if not module:
        return name
    return name.removeprefix(f"{module}.") if name.startswith(f"{module}.") else ""


def _common(one: str, other: str) -> int:
    """Return how many leading parts two names share."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return next(
        (index for index, (a, b) in enumerate(pairs) if a != b), min(one.count("."), other.count(".")) + 1
    )


def _unproven(model: PreTrainedModel, layer: str, index: int, row: Heads | Neurons) -> str:
    """Say why removing units is not the same as silencing them; empty where it is."""
    from compress.pruning.surgery import keep_heads, keep_neurons

    part: Attention | FeedForward | None
    if isinstance(row, Heads):
        part = attention_of(model, layer, row, index)
    else:
        part = next(feed_forwards_of(model, layer, row), None)
    if part is None or part.obstacle or part.units < 2:
        return "there is one unit only" if part is None else part.obstacle or "there is one unit only"
    kept, original = range(1, part.units, 2), copy.deepcopy(model.get_submodule(layer))
    whole = _run(model)
    with _silenced(model.get_submodule(part.output), kept, part.units):
        silenced = _run(model)
    try:
        if isinstance(part, Attention):
            keep_heads(model, part, kept)
        else:
            keep_neurons(model, part, kept)
        cut = _run(model)
    except Exception as error:  # whatever a forward pass makes of widths that it does not expect
        return f"its forward pass does not work without some units ({first_line(error)})"
    finally:
        model.set_submodule(layer, original)
    scale = float((silenced - whole).abs().max())
    if scale < 1e-4 * float(whole.abs().max()):
        return "its outputs do not reach the model's"
    # The arithmetic is the same but for the order of sums and, in some models, parts in float32.
    return "" if float((cut - silenced).abs().max()) < 1e-3 * scale else "other weights go by its units too"


@contextmanager
def _silenced(output: nn.Module, kept: range, units: int) -> Iterator[None]:
    """Zero what enters `output` from all units but those kept."""
    width = features(output)[0] // units  # type: ignore[index]
    mask = torch.zeros(units, width, dtype=torch.float64)
    mask[list(kept)] = 1
    handle = output.register_forward_pre_hook(
        lambda _, inputs: (inputs[0] * mask.flatten().to(inputs[0].dtype), *inputs[1:])
    )
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _run(model: PreTrainedModel) -> Tensor:
    """Return the last hidden states of a fixed random batch."""
    ids = torch.randint(3, 20, (2, 8), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids.flip(0)
    hidden: Tensor = model(**inputs)[0]
    return hidden.double()
