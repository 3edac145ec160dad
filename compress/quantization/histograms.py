"""What values the linear layers of a model read, counted in bins while texts go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.calibration.statistics import evaluating, valid_tokens
from compress.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Outliers stretch the range: where it is cut to a thirtieth, one of 255 steps is still as wide as a bin.
BINS = 8192


@dataclass(frozen=True)
class Histogram:
    """How often which value was read.

    Attributes:
        counts: values in each of equally wide bins (bins,), float64.
        low, high: where the first bin begins and the last one ends; 0 is between them.
    """

    counts: Tensor
    low: float
    high: float

    @property
    def centers(self) -> Tensor:
        """The middle of each bin (bins,), float64."""
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (torch.arange(len(self.counts), dtype=torch.float64) + 0.5)


@torch.no_grad()
def input_histograms(
    model: PreTrainedModel, batches: Sequence[dict[str, Tensor]], names: Sequence[str], bins: int = BINS
) -> dict[str, Histogram]:
    """Count the values that linear layers read, padding tokens left out.

    The batches are read twice, for the range and for the counts, so that memory is `bins` numbers a layer
    however many texts there are and however long. Layers that read the same tensor get the same counts.

    Args:
        model: in any mode; it is run in eval mode.
        batches: keyword arguments of the model on its device; rows may be of any length.
        names: full names of the layers.
        bins: of each histogram.

    Returns:
        Histograms by name; a layer that was never run is left out.

    Raises:
        InputError: a layer reads a value that is not finite.
    """
    ranges: dict[str, tuple[float, float]] = {}
    counts: dict[str, Tensor] = {}

    def widen(name: str, values: Tensor) -> None:
        low, high = ranges.get(name, (0.0, 0.0))
        smallest, largest = (bound.item() for bound in values.aminmax())
        if not (abs(smallest) < float("inf") and abs(largest) < float("inf")):
            raise InputError(
                "it reads values that are not finite",
                place=name,
                remedy="The training before diverged; use an earlier checkpoint or a lower learning rate.",
            )
        ranges[name] = min(low, smallest), max(high, largest)

    def count(name: str, values: Tensor) -> None:
        low, high = ranges[name]
        if low < high:
            found = torch.histc(values.float(), bins, low, high).double().cpu()
        else:  # zeros only
            found = torch.zeros(bins, dtype=torch.float64)
        counts[name] = counts.get(name, 0) + found

    read_inputs(model, batches, names, widen)
    read_inputs(model, batches, names, count)
    return {name: Histogram(counts[name], *ranges[name]) for name in names if name in counts}


def read_inputs(
    model: PreTrainedModel,
    batches: Sequence[dict[str, Tensor]],
    names: Sequence[str],
    look: Callable[[str, Tensor], None],
) -> None:
    """Run a model in eval mode and show `look` what each layer reads: its name, (tokens, in) without padding."""
    mask: Tensor | None = None

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = valid_tokens(inputs[0], mask)
            if values.numel():
                look(name, values)

        return see

    with evaluating(model), ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_pre_hook(hook(name))
            stack.callback(handle.remove)
        for batch in batches:
            mask = batch.get("attention_mask")
            model(**batch)
