"""Which layers matter, measured: how far the answers move when one is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.architectures.reading import layer_names, row_of
from compress.calibration.statistics import answer_of, chooses_class, evaluating
from compress.errors import InputError
from compress.pruning.layers import evenly_spaced, keep_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Forward = Callable[..., Any]


def drop_by_effect(model: PreTrainedModel, keep: int, batches: Sequence[dict[str, Tensor]]) -> list[int]:
    """Drop layers of `model` in place until `keep` are left, always the one whose absence moves the answers least.

    A step measures every layer that is left with the earlier ones gone already, against the logits of the
    untouched model. In all it runs about total · (total - keep) / 2 forward passes over the batches. Layers that
    share their weights (ALBERT's) are as good as each other, so none is measured.

    Args:
        model: run in eval mode, where it is.
        keep: layers left, from 1 to as many as there are.
        batches: keyword arguments of the model on its device; a few dozen examples are enough.

    Returns:
        The indices that stay, ascending.

    Raises:
        InputError: `keep` is out of range, there are no batches, or the family's config cannot say that these
            layers are left (see `keep_layers`).
    """
    stack = next(stack for stack in row_of(model).stacks if layer_names(model, stack))
    total = getattr(model.config, stack.layer_count) if stack.shared else len(layer_names(model, stack))
    kept = evenly_spaced(total, keep) if stack.shared else list(range(total))
    if len(evenly_spaced(total, keep)) < len(kept):
        reference = _logits(model, batches)
        while len(kept) > keep:
            effects = _effects(model, batches, reference, kept)
            kept.remove(min(kept, key=effects.__getitem__))
    keep_layers(model, kept)
    return kept


def layer_effects(model: PreTrainedModel, batches: Sequence[dict[str, Tensor]]) -> list[float]:
    """Return how far the answers move when each layer alone is passed over.

    That is KL(p ‖ p') of the class probabilities p of the whole model and p' of the model without the layer, or
    (z - z')² where the model gives one number; the mean over examples, and over tokens where each has an answer
    and `attention_mask` counts it. A layer is passed over by handing on its first input; nothing is copied.

    Args:
        model: run in eval mode, where it is. Of an encoder and a decoder the encoder's layers are measured.
        batches: keyword arguments of the model on its device.

    Raises:
        InputError: there are no batches, or the layers share their weights.
    """
    stack = next(stack for stack in row_of(model).stacks if layer_names(model, stack))
    if stack.shared:
        raise InputError(
            "the layers share their weights, so dropping any of them is the same",
            place=model.config.model_type,
            remedy="Say how many to keep.",
        )
    present = list(range(len(layer_names(model, stack))))
    effects = _effects(model, batches, _logits(model, batches), present)
    return [effects[layer] for layer in present]


def _logits(model: PreTrainedModel, batches: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    if not batches:
        raise InputError(
            "there are no examples to measure layers with",
            place="layers",
            remedy="Give data, or choose layers evenly.",
        )
    with torch.inference_mode(), evaluating(model):
        return [answer_of(model, batch) for batch in batches]


def _effects(
    model: PreTrainedModel,
    batches: Sequence[dict[str, Tensor]],
    reference: Sequence[Tensor],
    present: Sequence[int],
) -> dict[int, float]:
    """Return the effect of leaving out each layer of `present`, the others being left out already."""
    stack = next(stack for stack in row_of(model).stacks if layer_names(model, stack))
    layers = [model.get_submodule(name) for name in layer_names(model, stack)]
    classes = chooses_class(model)
    gone = {index: _pass_over(layer) for index, layer in enumerate(layers) if index not in present}
    sums, count = dict.fromkeys(present, 0.0), 0
    with torch.inference_mode(), evaluating(model):
        for batch, expected in zip(batches, reference, strict=True):
            calls: dict[int, tuple[Any, Any]] = {}
            recorders = {index: _recording(layers[index], index, calls) for index in present}
            with _replaced(layers, gone | recorders):
                model(**batch)
            mask = batch.get("attention_mask") if expected.ndim > 2 else None
            count += len(expected) if mask is None else int(mask.sum())
            for layer in present:
                # What comes before is known: only the layers after this one are computed.
                known = {index: _returning(calls[index][1]) for index in present if index < layer}
                known[layer] = _returning(_with_first(calls[layer][1], calls[layer][0]))
                with _replaced(layers, gone | known):
                    sums[layer] += _distance(answer_of(model, batch), expected, mask, classes)
    return {layer: total / count for layer, total in sums.items()}


def _distance(logits: Tensor, expected: Tensor, mask: Tensor | None, classes: bool) -> float:
    """Return the sum of KL divergences or squared differences over examples, or over the mask's tokens."""
    if mask is not None:
        logits, expected = logits[mask.bool()], expected[mask.bool()]
    if not classes:
        return float((logits.double() - expected.double()).square().sum())
    ours, theirs = (part.double().log_softmax(-1) for part in (logits, expected))
    return float(nn.functional.kl_div(ours, theirs, reduction="sum", log_target=True))


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the hidden states that a layer is called with: its first argument."""
    return args[0] if args else kwargs["hidden_states"]


def _with_first(output: Any, hidden: Any) -> Any:
    """Return a layer's output with its hidden states replaced, in the form it came in."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _pass_over(layer: nn.Module) -> Forward:
    """Run the layer for what it returns besides hidden states, such as T5's position bias, and skip it otherwise."""
    forward, more = layer.forward, True

    def pass_over(*args: Any, **kwargs: Any) -> Any:
        nonlocal more
        hidden = _input(args, kwargs)
        if not more:
            return hidden
        output = forward(*args, **kwargs)
        more = isinstance(output, tuple)
        return _with_first(output, hidden)

    return pass_over


def _recording(layer: nn.Module, index: int, calls: dict[int, tuple[Any, Any]]) -> Forward:
    forward = layer.forward

    def record(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        calls[index] = _input(args, kwargs), output
        return output

    return record


def _returning(value: Any) -> Forward:
    return lambda *args, **kwargs: value


@contextmanager
def _replaced(layers: Sequence[nn.Module], forwards: dict[int, Forward]) -> Iterator[None]:
    """Let layers run other functions in place of their forward pass; undone at the end."""
    before = {index: vars(layers[index]).get("forward") for index in forwards}
    for index in forwards:
        layers[index].forward = forwards[index]
    try:
        yield
    finally:
        for index, forward in before.items():
            if forward is None:
                del layers[index].forward
            else:
                layers[index].forward = forward
