"""Quantization-aware training: a model that trains with the roundings of its int8 self in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from compress.layers.dense import as_linear
from compress.quantization.dynamic import quantizable
from compress.quantization.fake import FakeInt8Embedding, FakeInt8Linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def fake_quantized(model: PreTrainedModel, embeddings: bool = True) -> Iterator[list[str]]:
    """Have `model` answer as `quantize_model` would make it answer, with float weights that train.

    Weights and activations are rounded in every forward pass by the very functions of the int8 layers, and
    gradients pass the roundings as if there were none (`compress.quantization.fake`). So `quantize_model` after
    this changes no answer: the logits are equal bit for bit on the same device. Method: Jacob et al. 2018
    (arXiv:1712.05877), section 3, with the ranges of dynamic int8 in place of learned ones.

    At the end every layer is a plain `nn.Linear` or `nn.Embedding` again, with the same parameters; GPT-2's
    `Conv1D` comes out as the `nn.Linear` that computes the same.

    Args:
        model: changed in place; of any structure that `quantize_model` takes. It becomes float32.
        embeddings: whether embedding tables are rounded too.

    Yields:
        The names of the layers that are rounded.

    Raises:
        InputError: no layer can be quantized; in a forward pass, a weight is not finite.
    """
    model.float()
    names = quantizable(model, embeddings)
    for name in names:
        module = model.get_submodule(name)
        if isinstance(module, nn.Embedding):
            model.set_submodule(name, FakeInt8Embedding.of(module))
        else:
            model.set_submodule(name, FakeInt8Linear.of(as_linear(module, name)))
    try:
        yield names
    finally:
        for name in names:
            module = model.get_submodule(name)
            assert isinstance(module, FakeInt8Linear | FakeInt8Embedding)
            model.set_submodule(name, module.plain())
