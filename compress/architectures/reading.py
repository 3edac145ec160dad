"""Reading a model's blocks by its family's row: names become modules, and modules say the widths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from compress.architectures.blocks import Attention, Block, FeedForward, Rows
from compress.architectures.families import FAMILIES, Family, Heads, Neurons, Stack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What attention modules call the width of a head, and their number of heads where they keep no width.
_SIZES = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size", "d_head", "dim_per_head")
_COUNTS = ("num_heads", "n_heads", "num_attention_heads", "n_head", "heads")


def row_of(model: PreTrainedModel) -> Family:
    """Return the family's row: the table's, or one found by structure.

    Raises:
        InputError: the family has no row and no attention or feed-forward part can be found.
    """
    row = FAMILIES.get(model.config.model_type)
    if row is not None:
        return row
    from compress.architectures.discovery import discover

    return discover(model)


def read(model: PreTrainedModel) -> list[Block]:
    """Return the blocks of `model` as it is now; see `blocks`."""
    row = row_of(model)
    return [
        _block(model, stack, name, index)
        for stack in row.stacks
        for index, name in enumerate(layer_names(model, stack))
    ]


def base_prefix(model: PreTrainedModel) -> str:
    """Return the full name of the base model with a dot at its end; empty where it is the model itself."""
    base = model.base_model
    return next((f"{name}." for name, module in model.named_modules() if name and module is base), "")


def layer_names(model: PreTrainedModel, stack: Stack) -> list[str]:
    """Return the full names of a stack's layers; empty where the model lacks the stack."""
    return list(expand(model, f"{base_prefix(model)}{stack.layers}.*"))


def expand(root: nn.Module, pattern: str) -> Iterator[str]:
    """Yield the names of modules in `root` that `pattern` means, where `*` is every child of a module."""
    head, star, tail = pattern.partition("*")
    if not star:
        if _module(root, pattern) is not None:
            yield pattern
        return
    parent = _module(root, head.rstrip("."))
    for child, _ in parent.named_children() if parent is not None else ():
        yield from expand(root, f"{head}{child}{tail}")


def join(*names: str) -> str:
    """Return the names joined by dots; an empty one is the module itself."""
    return ".".join(filter(None, names))


def features(module: nn.Module) -> tuple[int, int] | None:
    """Return a linear module's number of inputs and outputs, None for any other module."""
    width = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if width == (None, None):
        width = getattr(module, "nx", None), getattr(module, "nf", None)
    inputs, outputs = width
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else None


def _module(root: nn.Module, name: str) -> nn.Module | None:
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None


def _block(model: PreTrainedModel, stack: Stack, name: str, index: int) -> Block:
    attentions = (attention_of(model, name, heads, index) for heads in stack.heads)
    neurons = [found for row in stack.neurons for found in feed_forwards_of(model, name, row)]
    return Block(name, tuple(found for found in attentions if found is not None), tuple(neurons))


def attention_of(model: PreTrainedModel, layer: str, heads: Heads, index: int) -> Attention | None:
    """Read one attention of the layer named `layer`, the stack's `index`-th; None where it has none such."""
    name, output = join(layer, heads.module), join(layer, heads.output)
    names = [join(name, part) for part in (heads.query, heads.key, heads.value)]
    widths = [_features(model, part)[1] for part in names]
    total = _features(model, output)[0]  # of all query heads
    module = _module(model, name)
    if module is None or 0 in (total, *widths):
        return None
    size, fused, obstacle = head_size(module, total), len(set(names)), heads.obstacle
    if fused == 3:
        parts = [Rows(part, 0, width) for part, width in zip(names, widths, strict=True)]
    elif fused == 2:  # key and value
        parts = [Rows(names[0], 0, widths[0]), *_halves(names[1], widths[1], 0)]
    elif heads.per_head:
        units = (widths[0] - total) // (2 * size)
        period = widths[0] // max(units, 1)
        starts = (0, period - 2 * size, period - size, period)
        parts = [Rows(names[0], starts[i], starts[i + 1], period) for i in range(3)]
    else:
        parts = [Rows(names[0], 0, total), *_halves(names[0], widths[0], total)]
    units = widths[0] // parts[0].period if parts[0].period else (parts[1].stop - parts[1].start) // size
    if heads.bias == "first" and index == 0:
        obstacle = obstacle or "the first layer computes the position bias that all layers share"
    beside = [f"{name}.{part}" for part in heads.beside]
    query, key, value = parts
    return Attention(
        name,
        query,
        key,
        value,
        output,
        size,
        units,
        total // max(units, 1),
        tuple(Rows(part, 0, _features(model, part)[1]) for part in beside if _features(model, part)[1]),
        bool(heads.bias),
        obstacle or _misfit(parts, total, units, size),
    )


def _misfit(parts: list[Rows], total: int, units: int, size: int) -> str:
    """Say why the widths are not those of heads of one size; empty where they are."""
    widths = [part.stop - part.start for part in parts]
    if parts[0].period:
        whole = parts[0].period * units == total + 2 * units * size
    else:
        whole = units > 0 and widths[1] == units * size and widths[2] % units == total % units == 0
    if not whole or widths[0] % size:
        return f"projections of widths {widths} are not made of heads of {size}"
    return ""


def head_size(module: nn.Module, width: int) -> int:
    """Return the width of one head of an attention module whose heads take `width` together.

    A module that says neither the size nor the number of its heads counts as one head.
    """
    for name in _SIZES:
        if isinstance(size := getattr(module, name, None), int) and size > 0:
            return size
    for name in _COUNTS:
        if isinstance(count := getattr(module, name, None), int) and count > 0 and width % count == 0:
            return width // count
    return width


def feed_forwards_of(model: PreTrainedModel, layer: str, row: Neurons) -> Iterator[FeedForward]:
    """Read the feed-forward parts of the layer named `layer` that a row of names means, none or several."""
    outputs = expand(model, join(layer, row.output))
    inputs = [expand(model, join(layer, name)) for name in row.inputs]
    for output, *names in zip(outputs, *inputs, strict=False):
        units = _features(model, output)[0]
        made = [Rows(name, 0, _features(model, name)[1]) for name in names]
        if len(names) > len(set(names)):
            made = _halves(names[0], made[0].stop, 0)
        obstacle = row.obstacle
        if any(rows.stop - rows.start != units for rows in made):
            obstacle = obstacle or "the projections' widths differ"
        yield FeedForward(tuple(made), output, units, obstacle)


def _halves(name: str, stop: int, start: int) -> list[Rows]:
    middle = (start + stop) // 2
    return [Rows(name, start, middle), Rows(name, middle, stop)]


def _features(model: PreTrainedModel, name: str) -> tuple[int, int]:
    module = _module(model, name)
    return (features(module) if module is not None else None) or (0, 0)
