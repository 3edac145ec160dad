"""The last layer of a classifier, of which the exported file computes one token only.

Its queries, attention output and feed-forward part are read at the first token (`compress.exporting.rows`), its keys
and values at all. So its time is not that of another layer, and there is little to win in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.architectures.blocks import Attention, FeedForward, blocks
from compress.calibration.statistics import answer_of, evaluating
from compress.exporting.examples import example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact

# Shares of another layer's time that one token's work may take, the likeliest first where several fit alike.
SHARES = tuple(step / 20 for step in range(20, -1, -1))


def reads_one_token(artifact: Artifact) -> bool:
    """Say whether the answer reads the last of several layers at the first token alone, by its gradient."""
    model = artifact.model
    layers = blocks(model)
    if len(layers) < 2 or model.base_model is model:
        return False
    seen: list[Tensor] = []

    def watch(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        seen.append(hidden.detach().requires_grad_())
        return (seen[-1], *output[1:]) if isinstance(output, tuple) else seen[-1]

    batch = example(model, artifact.tokenizer, [5, 8], torch.Generator().manual_seed(0))
    handle = model.get_submodule(layers[-1].name).register_forward_hook(watch)
    try:
        with evaluating(model), torch.enable_grad():
            answer = answer_of(model, {name: ids.to(model.device) for name, ids in batch.items()})
            (gradient,) = torch.autograd.grad(answer.square().sum(), seen[-1:])
    finally:
        handle.remove()
    return gradient.dim() == 3 and not gradient[:, 1:].any() and bool(gradient[:, 0].any())


def last_share(part: Attention | FeedForward, share: float) -> float:
    """Return a part's share of its time, where one token's work takes `share`: keys and values need all tokens."""
    return (1 + share) / 2 if isinstance(part, Attention) else share


def last_outputs(model: PreTrainedModel) -> frozenset[str]:
    """Return the output modules of the last layer's parts."""
    last = blocks(model)[-1]
    return frozenset(part.output for part in last.attentions) | {part.output for part in last.feed_forwards}


def one_token_linears(model: PreTrainedModel) -> frozenset[str]:
    """Return the last layer's linear layers that are needed for one token, where the answer reads one."""
    last = blocks(model)[-1]
    names = {attention.output for attention in last.attentions}
    names |= {attention.query.module for attention in last.attentions}
    names -= {rows.module for attention in last.attentions for rows in (attention.key, attention.value)}
    for feed_forward in last.feed_forwards:
        names |= {feed_forward.output, *(rows.module for rows in feed_forward.inputs)}
    return frozenset(names)
