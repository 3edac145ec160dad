"""SmoothQuant: what is hard to round moves from activations into weights, and the function stays the same.

A channel j that is read by linear layers is divided by s_j where it is made and its weights are multiplied by s_j
where it is read, s_j = max|x_j|^α / max|w_j|^(1-α) (Xiao et al. 2022, arXiv:2211.10438, equation 4). It costs
nothing at run time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from compress.architectures import blocks
from compress.calibration.statistics import answer_of, evaluating
from compress.errors import CompressError, InputError
from compress.layers import LowRankLinear
from compress.quantization.dynamic import quantizable, tied_weights
from compress.quantization.histograms import read_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Fold:
    """Channels that one module makes and only linear layers read.

    Attributes:
        kind: what makes them: a norm, the values of an attention, the neurons of a feed-forward part.
        source: full name of the module that makes them.
        rows: which of its outputs they are (channels,), int64.
        readers: full names of the linear layers that read them.
        columns: channel of each of the readers' inputs (in,), int64: query heads may share a value head.
    """

    kind: Literal["norm", "value", "neurons"]
    source: str
    rows: Tensor
    readers: tuple[str, ...]
    columns: Tensor


@torch.no_grad()
def smooth(model: PreTrainedModel, batches: Sequence[dict[str, Tensor]], alpha: float) -> Counter[str]:
    """Fold smoothing factors into a model's weights in place, wherever its answers stay the same.

    Args:
        model: in float32.
        batches: keyword arguments of the model: whose activations are looked at, padding left out.
        alpha: how much of the difficulty moves to the weights, from 0 to 1; the paper takes 0.5.

    Returns:
        How many folds there are of each kind.

    Raises:
        InputError: there is no place to fold anything into.
        CompressError: the answers are others than before.
    """
    found = folds(model, batches[0])
    if not found:
        raise InputError(
            "there is nothing to smooth: no norm, value or gate whose output only linear layers read",
            place=model.config.model_type,
            remedy="Leave smooth out.",
        )
    largest: dict[str, Tensor] = {}

    def look(name: str, values: Tensor) -> None:
        seen = values.abs().amax(0)
        largest[name] = torch.maximum(largest[name], seen) if name in largest else seen

    read_inputs(model, batches, [fold.readers[0] for fold in found], look)
    with evaluating(model):
        before = answer_of(model, batches[0])
        done: Counter[str] = Counter()
        for fold in found:
            done[fold.kind] += _fold_in(model, fold, largest[fold.readers[0]], alpha)
        after = answer_of(model, batches[0])
    if not torch.allclose(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max())):
        raise CompressError(
            f"smoothing changed the answers by {float((after - before).abs().max()):.2g}",
            place=model.config.model_type,
            remedy="Leave smooth out, and please report the model's config.",
        )
    return done


@torch.no_grad()
def folds(model: PreTrainedModel, batch: dict[str, Tensor]) -> list[Fold]:
    """Return the places where channels can be scaled, what is in the layers before the norms.

    That nothing but the readers depends on the channels is proven and not assumed: with channels divided by
    powers of two, which rounds nothing, and multiplied again at the readers, the answer must be the same bits.

    Args:
        model: in float32.
        batch: keyword arguments of the model, a few examples.
    """
    batch = {name: value[:4] for name, value in batch.items()}
    candidates = [*_inside_blocks(model), *_after_norms(model, batch)]
    linear = set(quantizable(model, embeddings=False))
    tied = tied_weights(model)
    found: list[Fold] = []
    made: set[str] = set()
    with evaluating(model):
        expected = answer_of(model, batch)
        for fold in candidates:
            # Of a gate and what it gates one can be scaled: they make the same neurons.
            if fold.readers[0] in made or fold.source in tied or not linear.issuperset(fold.readers):
                continue
            if torch.equal(_scaled(model, batch, fold), expected):
                found.append(fold)
                made.update(fold.readers)
    return found


def _inside_blocks(model: PreTrainedModel) -> list[Fold]:
    """Return values before the output of attention, and neurons before that of feed-forward parts."""
    candidates = []
    for block in blocks(model):
        for part in block.attentions:
            rows = part.value.of_units(range(part.units), part.units)
            width = len(rows) // part.units
            channels = torch.arange(len(rows)).view(part.units, 1, width)
            columns = channels.expand(-1, part.unit_width // width, -1).flatten()
            source, reader = _end(model, part.value.module, "second"), _end(model, part.output, "first")
            candidates.append(Fold("value", source, rows, (reader,), columns))
        for ffn in block.feed_forwards:
            for inputs in reversed(ffn.inputs):  # the gate, whose activation function bends, comes first
                rows = inputs.of_units(range(ffn.units), ffn.units)
                source, reader = _end(model, inputs.module, "second"), _end(model, ffn.output, "first")
                candidates.append(Fold("neurons", source, rows, (reader,), torch.arange(ffn.units)))
    return candidates


def _end(model: nn.Module, name: str, end: str) -> str:
    """Name the factor of a low-rank pair that stands at one end of it."""
    return f"{name}.{end}" if isinstance(model.get_submodule(name), LowRankLinear) else name


def _after_norms(model: PreTrainedModel, batch: dict[str, Tensor]) -> list[Fold]:
    """Return the norms whose very output linear layers are handed."""
    outputs: dict[str, list[Tensor]] = {}
    readers: dict[str, set[str]] = {}

    def made(name: str, output: Tensor) -> None:
        outputs.setdefault(name, []).append(output)  # held, so that its address stays its own

    def handed(name: str, x: Tensor) -> None:
        for norm, tensors in outputs.items():
            if any(t.data_ptr() == x.data_ptr() and t.numel() == x.numel() for t in tensors):
                readers.setdefault(norm, set()).add(name)

    with evaluating(model), ExitStack() as stack:
        for name, module in model.named_modules():
            if type(module).__name__.endswith("Norm") and hasattr(module, "weight"):
                handle = module.register_forward_hook(
                    lambda module, inputs, output, name=name: made(name, output)
                )
                stack.callback(handle.remove)
        for name in quantizable(model, embeddings=False):
            handle = model.get_submodule(name).register_forward_pre_hook(
                lambda module, inputs, name=name: handed(name, inputs[0])
            )
            stack.callback(handle.remove)
        model(**batch)
    found = []
    for norm, names in readers.items():
        weight = model.get_submodule(norm).weight
        channels = torch.arange(weight.numel()) if isinstance(weight, Tensor) else torch.arange(0)
        found.append(Fold("norm", norm, channels, tuple(sorted(names)), channels))
    return found


def _scaled(model: PreTrainedModel, batch: dict[str, Tensor], fold: Fold) -> Tensor:
    """Return the answer with the channels scaled at the source and back at the readers."""
    factors = 2.0 ** (torch.arange(len(fold.rows)) % 5 - 2)

    def divide(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output.clone()
        output[..., fold.rows] /= factors.to(output)
        return output

    def multiply(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return inputs[0] * factors[fold.columns].to(inputs[0]), *inputs[1:]

    with ExitStack() as stack:
        handles = [model.get_submodule(fold.source).register_forward_hook(divide)]
        handles += [model.get_submodule(name).register_forward_pre_hook(multiply) for name in fold.readers]
        for handle in handles:
            stack.callback(handle.remove)
        return answer_of(model, batch)


def _fold_in(model: nn.Module, fold: Fold, largest: Tensor, alpha: float) -> bool:
    """Scale the weights of source and readers; say whether the source could be scaled.

    Args:
        model: is changed.
        fold: where.
        largest: max|x| of each of the readers' inputs (in,).
        alpha: see `smooth`.
    """
    columns = fold.columns.to(largest.device)
    readers = [model.get_submodule(name) for name in fold.readers]
    weights = torch.stack([_matrix(reader).abs().amax(0) for reader in readers]).amax(0)
    x, w = (
        torch.zeros(len(fold.rows), device=largest.device).scatter_reduce(0, columns, values, "amax")
        for values in (largest.float(), weights)
    )
    factors = torch.where((x > 0) & (w > 0), x**alpha / w ** (1 - alpha), torch.ones_like(x))
    source = model.get_submodule(fold.source)
    if fold.kind == "norm":
        if not _scale_norm(source, factors):
            return False
    else:
        _matrix(source)[fold.rows] /= factors[:, None]
        if isinstance(source.bias, Tensor):
            source.bias[fold.rows] /= factors
    for reader in readers:
        _matrix(reader).mul_(factors[columns])
    return True


def _scale_norm(norm: nn.Module, factors: Tensor) -> bool:
    """Divide a norm's outputs by factors; some multiply by 1 + weight (Gemma's) and not by weight."""
    weight = norm.weight
    assert isinstance(weight, Tensor)
    bias = getattr(norm, "bias", None)
    old, probe = weight.clone(), torch.linspace(-1, 1, len(factors), device=weight.device)[None]
    expected = norm(probe) / factors
    if isinstance(bias, Tensor):
        bias /= factors
    for offset in (0, 1):
        weight.copy_((old + offset) / factors - offset)
        if torch.allclose(norm(probe), expected, rtol=1e-4, atol=1e-5):
            return True
    weight.copy_(old)
    if isinstance(bias, Tensor):
        bias *= factors
    return False


def _matrix(module: nn.Module) -> Tensor:
    """Return a linear module's weight (out, in), to be changed in place."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.T if isinstance(module, Conv1D) else weight
