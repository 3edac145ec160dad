"""Fewer channels in the residual stream: a narrower model, in everything that reads or writes it."""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch_pruning
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from compress.architectures import blocks
from compress.architectures.reading import layer_names, row_of
from compress.calibration.statistics import evaluating, valid_tokens
from compress.errors import InputError, first_line
from compress.layers.dense import as_linear
from compress.layers.low_rank import LowRankLinear, saves
from compress.structure import apply, describe, skeleton

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MULTIPLE = 8  # what vector units, int8 kernels and tensor cores like

Axes = dict[
    str, set[int]
]  # of each parameter, by its full name, the axes that run along the residual channels


def prune_hidden(
    model: PreTrainedModel, keep: int, example: dict[str, Tensor], scores: Tensor | None = None
) -> list[int]:
    """Keep only `keep` channels of the residual stream of `model`, in place.

    They leave embeddings, normalisations, the inputs of query, key, value and feed-forward, the outputs of both,
    and the head. Heads and neurons stay, as wide as they were. What goes together is found by Torch-Pruning's
    dependency graph (Fang et al. 2023) of one forward pass. The channels removed are zero from then on, with one
    difference: LayerNorm and RMSNorm take their mean and variance over the channels that are left. The config
    keeps its width; the structure records the new one.

    Args:
        model: changed only where all went well. Takes memory for a second copy meanwhile.
        keep: channels left, a multiple of 8.
        example: keyword arguments of one forward pass on the model's device, two examples or more.
        scores: (channels,), higher is more important; None is `channel_norms`, for want of data. With data take
            `channel_effects`: on minilm-l6 the norms do no better than chance.

    Returns:
        The channels kept, ascending. An encoder's and a decoder's are the same, as they share their embedding.

    Raises:
        InputError: `keep` does not fit, the parts that go together cannot be found, or the narrower model would
            not run or not reload.
    """
    trial = _copy(model)
    axes, width = _residual_axes(trial, example)
    if keep % MULTIPLE or not 0 < keep < width:
        raise InputError(
            f"cannot keep {keep} of {width} residual channels",
            place="hidden",
            remedy=f"Give a multiple of {MULTIPLE} from {MULTIPLE} to {(width - 1) // MULTIPLE * MULTIPLE}.",
        )
    if scores is None:
        scores = _norms(trial, axes, width)
    if scores.shape != (width,) or not scores.isfinite().all():
        raise InputError(
            f"scores of shape {tuple(scores.shape)} for {width} residual channels",
            place="hidden",
            remedy="Give one finite number for each channel.",
        )
    kept: list[int] = scores.argsort(descending=True, stable=True)[:keep].sort().values.tolist()
    _cut(trial, axes, kept)
    for old, new in zip(model.parameters(), trial.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    for before, after in zip(model.modules(), trial.modules(), strict=True):
        after.training = before.training
    _merge_pairs(trial)
    if reason := _broken(trial, example):
        raise _refusal(model, f"the narrower model {reason}")
    for name, child in trial.named_children():
        setattr(model, name, child)
    for name, parameter in trial.named_parameters(recurse=False):
        setattr(model, name, parameter)
    return kept


def channel_norms(model: PreTrainedModel, example: dict[str, Tensor]) -> Tensor:
    """Return the L2 norm of all weights and biases that go with each residual channel, (channels,) float64.

    Raises:
        InputError: the parts that go together cannot be found.
    """
    trial = _copy(model)
    axes, width = _residual_axes(trial, example)
    return _norms(trial, axes, width)


def channel_effects(model: PreTrainedModel, batches: Sequence[dict[str, Tensor]]) -> Tensor:
    """Return how much of what reads the residual stream depends on each channel, (channels,) float64.

    For a linear module with weight W that reads the stream as x, channel c carries Var(x_c) Σ_o W_oc² of the
    output's variance, were channels uncorrelated: Wanda's score (Sun et al. 2024) for a column, less the mean,
    which is no information. Each module's are divided by their sum; the result is the sum over all modules.

    Args:
        model: run in eval mode, where it is. Takes memory for a second copy meanwhile.
        batches: keyword arguments of the model on its device; padding is left out.

    Raises:
        InputError: there are no batches, or the parts that go together cannot be found.
    """
    if not batches:
        raise InputError(
            "there are no examples to measure channels with", place="hidden", remedy="Give data."
        )
    trial = _copy(model)
    axes, width = _residual_axes(trial, batches[0])
    readers = {
        name: module
        for name, module in trial.named_modules()
        if isinstance(module, nn.Linear) and 1 in axes.get(f"{name}.weight", ())
    }
    sums = {name: torch.zeros(3, width, dtype=torch.float64, device=model.device) for name in readers}
    mask: Tensor | None = None

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows = valid_tokens(inputs[0], mask).double()
            ones = torch.ones_like(rows)
            sums[name] += torch.stack([ones.sum(0), rows.sum(0), rows.square().sum(0)])

        return add

    for name, module in readers.items():
        module.register_forward_pre_hook(hook(name))
    with torch.inference_mode(), evaluating(trial):
        for batch in batches:
            mask = batch.get("attention_mask")
            trial(**batch)
    effects = torch.zeros(width, dtype=torch.float64)
    for name, (count, total, squares) in sums.items():
        variance = (squares / count - (total / count).square()).clamp_min(0)
        energy = (variance * readers[name].weight.detach().double().square().sum(0)).cpu()
        effects += energy / energy.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return effects


def _copy(model: PreTrainedModel) -> PreTrainedModel:
    """Copy everything but the config, which all parts of a model share."""
    return copy.deepcopy(model, {id(model.config): model.config})


def _norms(model: nn.Module, axes: Axes, width: int) -> Tensor:
    energy = torch.zeros(width, dtype=torch.float64)
    for name, along in axes.items():
        squares = model.get_parameter(name).detach().double().square().cpu()
        for axis in along:
            energy += squares.movedim(axis, 0).reshape(width, -1).sum(1)
    return energy.sqrt()


def _residual_axes(model: PreTrainedModel, example: dict[str, Tensor]) -> tuple[Axes, int]:
    """Return the axes that run along the residual channels, and how many channels there are.

    The model is left with plain linear modules and gradients required.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            model.set_submodule(name, as_linear(module, name))
    roots = _readers(model)
    widths = {linear.in_features for linear in roots}
    if len(widths) != 1:
        raise _refusal(model, "its layers have no residual stream of one width")
    width = widths.pop()
    inputs: dict[str, Any] = dict(example)
    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs["use_cache"] = False  # the graph takes a cache's concatenations for channels
    graph = torch_pruning.DependencyGraph()
    try:
        with torch.enable_grad():
            model.requires_grad_(True)
            graph.build_dependency(model, inputs, output_transform=lambda output: output[0], verbose=False)
        return _follow(model, graph, roots, width), width
    except InputError:
        raise
    except Exception as error:  # whatever a forward pass or the graph makes of this model
        raise _refusal(model, f"the dependency graph cannot be built ({first_line(error)})") from error


def _readers(model: PreTrainedModel) -> list[nn.Linear]:
    """Return the first linear module of every layer that reads the residual stream."""
    found = []
    for block in blocks(model):
        names = [a.query.module for a in block.attentions] + [f.inputs[0].module for f in block.feed_forwards]
        module = model.get_submodule(names[0])
        found.append(as_linear(module.first if isinstance(module, LowRankLinear) else module, names[0]))
    return found


def _follow(model: PreTrainedModel, graph: Any, roots: list[nn.Linear], width: int) -> Axes:
    """Collect what goes with the inputs of `roots`, and with whatever shares a weight with that."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    axes: Axes = defaultdict(set)

    def follow(root: nn.Module, cut: Any) -> None:
        for dependency, channels in graph.get_pruning_group(root, cut, list(range(width))):
            outputs = graph.is_out_channel_pruning_fn(dependency.handler)
            for parameter, axis in _cut_by(dependency.target, outputs):
                name = names[id(parameter)]
                if list(channels) != list(range(width)) or parameter.shape[axis] != width:
                    raise _refusal(model, f"{name} is not laid out by residual channels")
                axes[name].add(axis)

    streams = 0
    for root in roots:
        if 1 not in axes.get(names[id(root.weight)], ()):
            follow(root, torch_pruning.prune_linear_in_channels)
            streams += 1
    if streams > sum(bool(layer_names(model, stack)) for stack in row_of(model).stacks):
        raise _refusal(model, "what its layers read is not one residual stream")
    for (
        module
    ) in graph.module2node:  # a head tied to the embedding reads what comes before it by the same channels
        if isinstance(module, nn.Linear | nn.Embedding) and 1 in axes.get(names[id(module.weight)], ()):
            linear = isinstance(module, nn.Linear)
            cuts = torch_pruning.prune_linear_in_channels, torch_pruning.prune_embedding_out_channels
            follow(module, cuts[0] if linear else cuts[1])
    return dict(axes)


def _cut_by(node: Any, outputs: bool) -> list[tuple[Tensor, int]]:
    """Return the parameters of a node of the graph that have to be cut, with the axis."""
    module = node.module
    if isinstance(module, nn.Parameter):
        return [(module, node.pruning_dim)]
    if not isinstance(module, nn.Module) or not list(module.parameters()):
        return []
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return [(parameter, 0) for parameter in module.parameters()]
    if isinstance(module, nn.Embedding):
        return [(module.weight, 1)]
    if isinstance(module, nn.Linear):
        biases = [(module.bias, 0)] if outputs and module.bias is not None else []
        return [(module.weight, 0 if outputs else 1), *biases]
    raise InputError(
        f"cannot narrow {type(module).__name__}", place=node.name, remedy="Prune heads, neurons or layers."
    )


def _cut(model: nn.Module, axes: Axes, kept: list[int]) -> None:
    """Select the channels `kept` in every parameter; tied ones stay tied."""
    narrow: dict[int, nn.Parameter] = {}
    for name, along in axes.items():
        parameter = model.get_parameter(name)
        tensor = parameter.detach()
        for axis in along:
            tensor = tensor.index_select(axis, torch.tensor(kept, device=tensor.device))
        narrow[id(parameter)] = nn.Parameter(tensor)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in narrow:
                setattr(module, name, narrow[id(parameter)])
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.Embedding):
            module.embedding_dim = module.weight.shape[1]
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and module.weight is not None:
            module.normalized_shape = tuple(module.weight.shape)


def _merge_pairs(model: nn.Module) -> None:
    """Bring low-rank pairs to their new widths; one that saves nothing any more becomes its product."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LowRankLinear):
            module.in_features, module.out_features = module.first.in_features, module.second.out_features
            if not saves(module.rank, module.in_features, module.out_features):
                model.set_submodule(name, module.dense())


def _broken(model: PreTrainedModel, example: dict[str, Tensor]) -> str:
    """Say why a model cannot run or be rebuilt from its config and structure; empty where it can."""
    try:
        with torch.inference_mode(), evaluating(model):
            if not model(**example)[0].isfinite().all():
                return "gives no finite outputs"
        rebuilt = skeleton(model)
        apply(rebuilt, describe(model))
    except Exception as error:  # whatever a forward pass or a config makes of widths that it does not expect
        return f"does not run ({first_line(error)})"
    shapes, wanted = (
        {name: parameter.shape for name, parameter in one.named_parameters(remove_duplicate=False)}
        for one in (rebuilt, model)
    )
    if differing := [name for name in wanted if shapes.get(name) != wanted[name]]:
        return f"cannot be rebuilt from its config ({differing[0]})"
    return ""


def _refusal(model: PreTrainedModel, cause: str) -> InputError:
    return InputError(
        f"the hidden width cannot be pruned: {cause}",
        place=model.config.model_type,
        remedy="Prune heads, neurons or layers.",
    )
