"""The dropout of a model, wherever its family keeps the rates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def dropout_set(model: PreTrainedModel, rate: float | None) -> Iterator[None]:
    """Set every dropout to `rate` for a while; None leaves them as they are."""
    places = _rates(model) if rate is not None else []
    own = [getattr(*place) for place in places]
    for module, name in places:
        setattr(module, name, rate)
    try:
        yield
    finally:
        for (module, name), before in zip(places, own, strict=True):
            setattr(module, name, before)


def drops_anything(model: PreTrainedModel) -> bool:
    """Say whether any dropout is above 0."""
    return any(getattr(*place) for place in _rates(model))


def _rates(model: PreTrainedModel) -> list[tuple[nn.Module, str]]:
    """Return where the rates stand: in layers, and in plain numbers that functions are called with (T5, Llama)."""
    return [
        (module, name)
        for module in model.modules()
        for name, value in vars(module).items()
        if type(value) in (int, float)
        and (name == "p" if isinstance(module, nn.Dropout) else name.endswith("dropout"))
    ]
