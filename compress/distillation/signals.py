"""What is read inside a model while it runs: its layers' outputs, attention maps, queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from compress.architectures import Block, blocks
from compress.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.tasks import Task

Kind = Literal[
    "answer", "token-answer", "embedding", "hidden", "sentence", "attention", "query", "key", "value"
]


@dataclass(frozen=True, order=True)
class Signal:
    """One thing that a model computes on its way to the answer.

    Attributes:
        kind: `answer` (B, L) or `token-answer` (B, T, L), as `Task.answer` has it; `embedding` (what the first
            layer reads) and `hidden` (a layer's output), both (B, T, H); `sentence` (B, H), the mean of a layer's
            output over the tokens that are no padding; `query`, `key`, `value` (B, T, D), all heads side by side;
            `attention` (B, heads, T, T), each row of which sums to one.
        layer: from 0; 0 where there is no layer to name.
    """

    kind: Kind
    layer: int = 0

    def __str__(self) -> str:
        return f"{self.kind}-{self.layer}"

    @property
    def rows(self) -> int:
        """Tokens that one row belongs to: 0 for a row an example, 1 for a row a token, 2 for a row a pair of them."""
        return {"answer": 0, "sentence": 0, "attention": 2}.get(self.kind, 1)


def answer_signal(task: Task) -> Signal:
    """Return the signal that is the answer itself."""
    return Signal("token-answer" if task.per_token else "answer")


def layer_list(model: PreTrainedModel) -> list[Block]:
    """Return the blocks in the order they run; ALBERT's one block stands as often as it runs."""
    found = blocks(model)
    count = getattr(model.config, "num_hidden_layers", len(found))
    return found * count if len(found) == 1 else found


@contextmanager
def record(
    model: PreTrainedModel, signals: Iterable[Signal], training_only: bool = False
) -> Iterator[dict[Signal, Tensor]]:
    """Yield a dict that holds, after each forward pass of `model`, the signals of that pass.

    Gradients flow through them where they are on. Attention maps want a model that runs with
    `output_attentions=True` and eager attention.

    Args:
        model: is watched.
        signals: what is wanted.
        training_only: leave passes in eval mode alone, which score a model that trains and ask for no maps.

    Raises:
        InputError: the model has no such layer, or keeps no such thing.
    """
    signals = sorted(set(signals))
    recorded: dict[Signal, Tensor] = {}
    layers = layer_list(model) if signals else []
    calls: dict[str, int] = {}
    masks: list[Tensor | None] = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.clear()
        recorded.clear()
        masks[:] = [kwargs.get("attention_mask")]

    handles = [model.base_model.register_forward_pre_hook(begin, with_kwargs=True)]
    for name, readers in _readers(model, layers, signals, masks).items():
        module = model.get_submodule(name)
        for before in (True, False):
            wanted = [reader for reader in readers if reader.before == before]
            if wanted:
                hook = partial(
                    _hook,
                    name=f"{name} {before}",
                    readers=wanted,
                    calls=calls,
                    out=recorded,
                    training_only=training_only,
                )
                add: Callable[..., Any] = (
                    module.register_forward_pre_hook if before else module.register_forward_hook
                )
                handles.append(add(hook, with_kwargs=True))
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def answering(
    artifact: Artifact, signals: Iterable[Signal], bf16: bool
) -> Iterator[Callable[[Mapping[str, Tensor]], dict[Signal, Tensor]]]:
    """Yield a function from a padded batch to the model's signals, in eval mode and without gradients.

    Args:
        artifact: where its model is, there it runs; its task says what the answer is.
        signals: what is wanted of it, its answer (float32) among them or not.
        bf16: run matrix products in bfloat16 (autocast).

    Raises:
        InputError: as `record`.
    """
    import torch

    model, task, own = artifact.model, artifact.task, answer_signal(artifact.task)
    signals = set(signals)
    inside = signals - {own}
    device, training = model.device, model.training
    model.eval()
    with attention_maps(model, inside) as options, record(model, inside) as recorded:

        def answer(batch: Mapping[str, Tensor]) -> dict[Signal, Tensor]:
            inputs = {name: value.to(device) for name, value in batch.items()}
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                said = task.answer(model(**inputs, **options), inputs)
            return {**recorded, **({own: said.float()} if own in signals else {})}

        try:
            yield answer
        finally:
            model.train(training)


@contextmanager
def attention_maps(model: PreTrainedModel, signals: Iterable[Signal]) -> Iterator[dict[str, bool]]:
    """Have the model show attention maps for a while if `signals` want them; yield what to call it with."""
    if not any(signal.kind == "attention" for signal in signals):
        yield {}
        return
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the others never compute the maps
    try:
        yield {"output_attentions": True}
    finally:
        model.set_attn_implementation(before)


@dataclass(frozen=True)
class _Reader:
    """Reads `signal` at the `call`-th run of a module, from its input or its output."""

    signal: Signal
    call: int
    read: Callable[[Any], Tensor]
    before: bool = False


def _readers(
    model: PreTrainedModel, layers: Sequence[Block], signals: Sequence[Signal], masks: list[Tensor | None]
) -> dict[str, list[_Reader]]:
    found: dict[str, list[_Reader]] = {}
    for signal in signals:
        if not 0 <= signal.layer < len(layers):
            raise InputError(
                f"there is no layer {signal.layer}: the model has {len(layers)}",
                place=model.config.model_type,
                remedy=f"Give layers from 0 to {len(layers) - 1}.",
            )
        block = layers[signal.layer]
        call = sum(other.name == block.name for other in layers[: signal.layer])
        if signal.kind == "embedding":
            name, reader = block.name, _Reader(signal, call, _first, before=True)
        elif signal.kind == "hidden":
            name, reader = block.name, _Reader(signal, call, _first)
        elif signal.kind == "sentence":
            name, reader = block.name, _Reader(signal, call, partial(_mean, masks=masks))
        else:
            if not block.attentions:
                raise _lacks(model, signal)
            attention = block.attentions[0]
            if signal.kind == "attention":
                name, reader = attention.name, _Reader(signal, call, partial(_map, model, signal))
            else:
                rows = attention.query if signal.kind == "query" else attention.key
                rows = attention.value if signal.kind == "value" else rows
                kept = rows.of_units(range(attention.units), attention.units) if rows.period else None
                cut = slice(rows.start, rows.stop) if kept is None else kept
                name, reader = rows.module, _Reader(signal, call, partial(_columns, columns=cut))
        found.setdefault(name, []).append(reader)
    return found


def _hook(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Any = None,
    *,
    name: str,
    readers: Sequence[_Reader],
    calls: dict[str, int],
    out: dict[Signal, Tensor],
    training_only: bool,
) -> None:
    if training_only and not module.training:
        return
    call = calls.get(name, 0)
    calls[name] = call + 1
    for reader in readers:
        if reader.call == call:
            value = (args or (kwargs.get("hidden_states"),)) if reader.before else output
            out[reader.signal] = reader.read(value)


def _first(value: Any) -> Tensor:
    first: Tensor = value[0] if isinstance(value, tuple | list) else value
    return first


def _columns(value: Any, columns: Any) -> Tensor:
    return _first(value)[..., columns]


def _mean(value: Any, masks: list[Tensor | None]) -> Tensor:
    states, mask = _first(value).float(), masks[0]
    if mask is None:
        return states.mean(1)
    weights = mask[:, :, None].to(states)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def _map(model: PreTrainedModel, signal: Signal, value: Any) -> Tensor:
    others = value[1:] if isinstance(value, tuple) else ()
    maps = [each for each in others if getattr(each, "ndim", 0) == 4]
    if not maps:
        raise _lacks(model, signal)
    found: Tensor = maps[-1]  # T5 gives the bias of positions before them
    return found


def require_usual(model: PreTrainedModel, signal: Signal, value: Tensor, mask: Tensor) -> None:
    """Refuse a signal that is not what `Signal` says: XLNet's come by token first, Funnel pools its tokens.

    Args:
        model: shows it.
        signal: which one.
        value: of a batch.
        mask: (B, T) the batch's attention mask.

    Raises:
        InputError: its shape is another one.
    """
    batch, length = mask.shape
    usual = value.shape[0] == batch
    if signal.rows:
        usual &= value.shape[1:2] == (length,) if signal.rows == 1 else value.shape[2:] == (length, length)
    if not usual:
        raise _lacks(model, signal)


def _lacks(model: PreTrainedModel, signal: Signal) -> InputError:
    return InputError(
        f"the model shows no {signal.kind} of layer {signal.layer}",
        place=model.config.model_type,
        remedy="Match `hidden`, `relations` or the logits alone in its place.",
    )
