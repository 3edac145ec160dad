"""Cut a model's parts to the units that stay, and make up for what went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.architectures import Attention
from compress.calibration.reconstruction import least_squares, reconstruct, set_weights
from compress.calibration.statistics import LinearStatistics, weights_of_tokens
from compress.calibration.targets import Target
from compress.pruning.elimination import compensated
from compress.pruning.parts import Part, unit_width
from compress.pruning.surgery import keep_heads, keep_neurons

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def cut(
    model: PreTrainedModel,
    parts: Sequence[Part],
    kept: Sequence[Sequence[int]],
    statistics: Mapping[str, LinearStatistics],
) -> None:
    """Keep only `kept` of each part's units, in place.

    Where there are statistics of the layer that reads the units, its columns that stay are changed to make up for
    those that go, and the mean of what goes is put into its bias.
    """
    for part, units in zip(parts, kept, strict=True):
        if len(units) == part.units:
            continue
        before = model.get_submodule(part.output)
        weight, seen = _weight_of(before), statistics.get(part.output)
        if isinstance(part, Attention):
            keep_heads(model, part, units)
        else:
            keep_neurons(model, part, units)
        after = model.get_submodule(part.output)
        if weight is None or seen is None or not isinstance(after, nn.Linear):
            continue
        width = unit_width(part)
        starts = torch.tensor(list(units), device=weight.device)[:, None] * width
        columns = (starts + torch.arange(width, device=weight.device)).flatten()
        if after.bias is None:  # the mean has to be met by the weights
            gram = seen.gram + torch.outer(seen.mean, seen.mean)
            after.weight.copy_(compensated(weight, gram, columns))
        else:
            new = compensated(weight, seen.gram, columns)
            after.weight.copy_(new)
            after.bias.add_((weight.double() @ seen.mean - new @ seen.mean[columns]).to(after.bias.dtype))


def reconstruct_outputs(
    model: PreTrainedModel,
    batch: dict[str, Tensor],
    targets: Mapping[str, Target],
    statistics: Mapping[str, LinearStatistics],
) -> None:
    """Re-solve, in the order they run, the layers that read the units, against the untouched model.

    Args:
        model: cut, changed in place.
        batch: what the targets were recorded on.
        targets: of the parts' output layers.
        statistics: their token weights, where they have them.
    """

    def solve(name: str, linear: nn.Linear, x: Tensor, wanted: Tensor) -> None:
        weight, mean_x, mean_y, _ = least_squares(linear, x, wanted, weights_of_tokens(statistics, name, x))
        set_weights(linear, weight, mean_x, mean_y)

    plain = {name: t for name, t in targets.items() if isinstance(model.get_submodule(name), nn.Linear)}
    reconstruct(model, batch, plain, solve)


def _weight_of(module: nn.Module) -> Tensor | None:
    """Return the weight (out, in) of a plain layer, before surgery replaces it; None for a low-rank pair."""
    from compress.layers import LowRankLinear
    from compress.layers.dense import as_linear

    return None if isinstance(module, LowRankLinear) else as_linear(module).weight.detach().clone()
