"""What is changed in a traced ONNX graph, and what must hold for the file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import nn

from compress.errors import CompressError
from compress.exporting.rows import read_rows_only
from compress.exporting.traceable import OnnxInt8Linear, OnnxStaticInt8Linear
from compress.exporting.weight_only import OnnxWeightOnlyLinear
from compress.layers import Int8Embedding

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

AXES = ("batch", "length")
_CONSTANTS = 1 << 16  # bytes of float constants that a tracer may add
_CODES = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)


def tidy(program: onnx_ir.Model, outputs: Sequence[str]) -> onnx_ir.Model:
    """Name the outputs and the free axes, drop what does not compute, and return the program.

    The sums before a LayerNorm become `Sum` in place of `Add`, the same operation under another name: ONNX
    Runtime fuses `Add` and `LayerNormalization` to `SkipLayerNormalization`, whose CPU kernel is several times
    slower than the two apart.
    """
    graph = program.graph
    del graph.outputs[len(outputs) :]
    RemoveUnusedNodesPass()(program)  # a reader that nobody reads wants no row
    read_rows_only(program)
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name
    for value in chain(graph.inputs, graph.outputs):
        _name_axes(value)
    for node in list(graph):
        _fix_axes(node)
    for node in graph:
        if node.op_type == "LayerNormalization":
            before = node.inputs[0].producer() if node.inputs[0] is not None else None
            if before is not None and before.op_type == "Add" and not _has_constant(before):
                before.op_type = "Sum"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                # Shapes with the tracer's symbols trip tools that infer shapes themselves (ORT's quantizer).
                value.shape = value.type = None
    for value in graph.initializers.values():
        value.shape = value.type = (
            None  # the tensor says both; that quantizer transposes it and trips over them
        )
    RemoveUnusedNodesPass()(program)
    program.producer_name = "compress"
    return program


def check_graph(path: Path, traced: nn.Module, sample: dict[str, Tensor]) -> list[str]:
    """Check a file's inputs, integer products and stored weights.

    Args:
        path: the ONNX file.
        traced: the model that was traced, `compress.exporting.traceable.traceable`.
        sample: inputs that the model can read, by name and in the file's order.

    Returns:
        Facts on size and operators, a line each.

    Raises:
        CompressError: an axis is fixed, a quantized layer is not one product in the file, its codes are not
            stored as they are, or there are more float weights than in the model.
    """
    graph = onnx_ir.load(path).graph
    names = tuple(value.name for value in graph.inputs)
    if names != tuple(sample):
        raise _wrong(path, f"its inputs are {names}, not {tuple(sample)}")
    for value in graph.inputs:
        if value.shape is None or any(isinstance(dim, int) for dim in value.shape.dims):
            raise _wrong(path, f"input {value.name} has a fixed axis: {value.shape}")

    stored: dict[str, int] = Counter()
    codes: set[tuple[tuple[int, ...], str]] = set()
    for value in graph.initializers.values():
        if value.const_value is not None:
            stored[value.const_value.dtype.name] += value.const_value.nbytes
            if value.const_value.dtype in _CODES:
                codes.add(_fingerprint(value.const_value.numpy()))
    operators = Counter(node.op_type for node in graph.all_nodes())

    uses = _uses(traced, sample)
    for name in uses:
        for tensor in traced.get_submodule(name).buffers(recurse=False):
            coded = tensor.dtype in (torch.int8, torch.uint8) and tensor.dim() > 1
            if coded and _fingerprint(tensor.numpy()) not in codes:
                kind = str(tensor.dtype).removeprefix("torch.")
                raise _wrong(path, f"the {kind} codes of {name} are not in it")
    found = {
        OnnxInt8Linear: (operators["MatMulInteger"], "int8"),
        OnnxStaticInt8Linear: (_qdq_products(graph), "int8"),
        OnnxWeightOnlyLinear: (operators["MatMulNBits"], "weight-only"),
    }
    layers: dict[str, int] = Counter()
    products: dict[str, int] = Counter()
    for layer, (made, called) in found.items():
        names_of_kind = [name for name in uses if isinstance(traced.get_submodule(name), layer)]
        if made != (used := sum(uses[name] for name in names_of_kind)):
            raise _wrong(path, f"{made} {called} products for {used} uses of {called} layers")
        layers[called] += len(names_of_kind)
        products[called] += made
    floats = sum(t.nbytes for t in chain(traced.parameters(), traced.buffers()) if t.dtype == torch.float32)
    if stored["FLOAT"] > floats + _CONSTANTS:
        raise _wrong(path, f"{stored['FLOAT']:,} bytes of float32 weights; the model has {floats:,}")

    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    packed = f"uint8 {stored['UINT8'] / 1e6:.1f} MB, " if stored["UINT8"] else ""
    facts = [
        f"{path.name}: {size / 1e6:.1f} MB; weights {packed}int8 {stored['INT8'] / 1e6:.1f} MB, "
        f"float32 {stored['FLOAT'] / 1e6:.1f} MB; {sum(operators.values())} operators"
    ]
    if layers["int8"]:
        facts.append(
            f"all {layers['int8']} int8 layers are integer products, {products['int8']} in all, on "
            f"{operators['DynamicQuantizeLinear'] + operators['QuantizeLinear']} quantized inputs; all int8 "
            "codes are the model's"
        )
    if layers["weight-only"]:
        facts.append(
            f"all {layers['weight-only']} weight-only layers are products in blocks, {products['weight-only']} "
            "in all; all codes are the model's"
        )
    return facts


@torch.no_grad()
def _uses(traced: nn.Module, sample: dict[str, Tensor]) -> dict[str, int]:
    """Count how often each quantized module runs in one pass: ALBERT's layers share one, some are never read."""
    uses: dict[str, int] = Counter()
    handles = [
        module.register_forward_hook(lambda *_, name=name: uses.update([name]))
        for name, module in traced.named_modules()
        if isinstance(module, OnnxInt8Linear | OnnxStaticInt8Linear | OnnxWeightOnlyLinear | Int8Embedding)
    ]
    try:
        traced(**sample)
    finally:
        for handle in handles:
            handle.remove()
    return uses


def _qdq_products(graph: onnx_ir.Graph) -> int:
    """Count the products of two `DequantizeLinear`, which runtimes turn into integer products."""
    return sum(
        node.op_type == "MatMul"
        and all(
            (before := value.producer() if value is not None else None) is not None
            and before.op_type == "DequantizeLinear"
            for value in node.inputs
        )
        for node in graph.all_nodes()
    )


def _name_axes(value: onnx_ir.Value) -> None:
    """Give the first axes their names where the tracer left them free."""
    assert value.shape is not None
    names = dict(enumerate(AXES))
    value.shape = onnx_ir.Shape(
        [dim if isinstance(dim, int) else names.get(i, dim) for i, dim in enumerate(value.shape.dims)]
    )


def _fix_axes(node: onnx_ir.Node) -> None:
    """Let a `Squeeze` without axes drop those that are 1 at any input, as traced, and not also a batch of one."""
    shape = node.inputs[0].shape if node.op_type == "Squeeze" and node.inputs[0] is not None else None
    if shape is None or len(node.inputs) > 1 or node.graph is None:
        return
    axes = np.array([axis for axis, dim in enumerate(shape.dims) if dim == 1], dtype=np.int64)
    name = f"{node.outputs[0].name}_axes"
    value = onnx_ir.val(name, const_value=onnx_ir.tensor(axes, name=name))
    node.graph.register_initializer(value)
    node.resize_inputs(2)
    node.replace_input_with(1, value)


def _has_constant(node: onnx_ir.Node) -> bool:
    return any(value is not None and value.is_initializer() for value in node.inputs)


def _fingerprint(array: NDArray[np.int8]) -> tuple[tuple[int, ...], str]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _wrong(path: Path, cause: str) -> CompressError:
    return CompressError(
        f"the exported file is not what the model is: {cause}",
        place=path.name,
        remedy="The file was removed. Please report the model's config and the versions of torch and onnx.",
    )
