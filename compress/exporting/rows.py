"""Only the rows that the answer reads: a classifier looks at one token of the last layer, so the others need no work.

A backward pass over the graph asks what each tensor is read for. Where every reader wants the same one row, the
node before it computes that row alone, and so on down to tensors that someone reads whole. In an encoder with a
classification head those are the input, keys and values of the last layer: its queries, attention output and
feed-forward block shrink from `length` rows to one. Float results stay what they were; a dynamic int8 scale is
that of the row that is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """One position of one axis. The axis counts from the front; a negative index counts from the end."""

    axis: int
    index: int


# The inputs, by place, of which a node needs one row to compute one row of its output. It reads others whole.
Rows = dict[int, Row]


def read_rows_only(program: onnx_ir.Model) -> int:
    """Shrink, in place, what is read for one row only. The values' shapes have to be the tracer's still.

    Returns:
        How many nodes compute one row in place of all.
    """
    graph = program.graph
    readers: dict[onnx_ir.Value, list[Row | None]] = defaultdict(list)
    shrunk: dict[onnx_ir.Node, Rows] = {}
    for node in reversed(graph):
        rows = _rows_needed(node, readers)
        if rows is not None:
            shrunk[node] = rows
        needed = rows if rows is not None else _selection(node)
        for place, value in enumerate(node.inputs):
            if value is not None:
                readers[value].append(needed.get(place))
    slices: dict[tuple[onnx_ir.Value, Row], onnx_ir.Value] = {}
    for node in list(graph):
        for place, row in (shrunk[node] if node in shrunk else _selection(node)).items():
            value = node.inputs[place]
            assert value is not None
            if value.producer() in shrunk:
                if node not in shrunk:  # selects from what has one row now
                    node.replace_input_with(
                        1, _constant(node, "row", np.zeros_like(_numbers(node.inputs[1])))
                    )
            elif node in shrunk:
                if (value, row) not in slices:
                    slices[value, row] = _slice(node, value, row)
                node.replace_input_with(place, slices[value, row])
        if node in shrunk and node.op_type == "Reshape":
            _reshape_to_one_row(node, shrunk[node][0].axis)
    return len(shrunk)


def _rows_needed(node: onnx_ir.Node, readers: dict[onnx_ir.Value, list[Row | None]]) -> Rows | None:
    """Return what the node needs to compute the one row that all its readers want; None where it must do all."""
    outputs = [value for value in node.outputs if value.shape is not None and len(value.shape) > 0]
    wanted = [row for value in outputs for row in readers[value]]
    # A reader inside a subgraph, or the caller who gets an output, has not been asked.
    if not wanted or len(wanted) < sum(len(value.uses()) for value in node.outputs if value in outputs):
        return None
    if any(value.is_graph_output() or value.shape is None for value in node.outputs):
        return None
    row, rule = wanted[0], _RULES.get(node.op_type)
    if row is None or rule is None or any(other != row for other in wanted):
        return None
    return rule(node, row)


def _selection(node: onnx_ir.Node) -> Rows:
    """Return the row of a free axis that a `Gather` with one constant index reads; empty for other nodes."""
    if node.op_type != "Gather":
        return {}
    index, axis = _numbers(node.inputs[1]), _integer(node, "axis", 0)
    dims = _dims(node.inputs[0])
    if index is None or index.size != 1 or dims is None or isinstance(dims[axis], int):
        return {}
    return {0: Row(axis % len(dims), int(index.reshape(-1)[0]))}


def _alike(node: onnx_ir.Node, row: Row) -> Rows | None:
    """Each row comes of the same row of the first input."""
    return {0: row}


def _broadcast(node: onnx_ir.Node, row: Row) -> Rows | None:
    """Element by element; an input without the axis, or with one row for all, is read whole."""
    out = _dims(node.outputs[0])
    rows: Rows = {}
    for place, value in enumerate(node.inputs):
        dims = _dims(value)
        if dims is None or out is None:
            return None
        axis = row.axis - (len(out) - len(dims))
        if axis < 0 or dims[axis] == 1:
            continue
        if dims[axis] != out[row.axis]:
            return None
        rows[place] = Row(axis, row.index)
    return rows or None


def _except_axis(node: onnx_ir.Node, row: Row) -> Rows | None:
    """Mixes elements along `axis` only (and, for a norm, the axes after it)."""
    dims = _dims(node.outputs[0])
    mixed = _integer(node, "axis", -1) % len(dims or [0])
    after = node.op_type == "LayerNormalization"
    if dims is None or row.axis == mixed or (after and row.axis > mixed):
        return None
    places = range(len(node.inputs)) if node.op_type == "Concat" else (0,)
    return dict.fromkeys(places, row)


def _product(node: onnx_ir.Node, row: Row) -> Rows | None:
    """`MatMul`: a row of the result is a row of the left factor times all of the right one."""
    left, right, out = _dims(node.inputs[0]), _dims(node.inputs[1]), _dims(node.outputs[0])
    if left is None or right is None or out is None or len(left) != len(out):
        return None
    if row.axis == len(out) - 2 or (row.axis < len(out) - 2 and len(right) == 2):
        return {0: row}
    return None


def _transpose(node: onnx_ir.Node, row: Row) -> Rows | None:
    permutation = node.attributes["perm"].as_ints()
    return {0: Row(permutation[row.axis], row.index)}


def _reshape(node: onnx_ir.Node, row: Row) -> Rows | None:
    """Splits or joins axes behind the row's; those before it, and it, are the same on both sides."""
    before, after = _dims(node.inputs[0]), _dims(node.outputs[0])
    if before is None or after is None or before[: row.axis + 1] != after[: row.axis + 1]:
        return None
    return {0: row} if all(isinstance(dim, int) for dim in after[row.axis + 1 :]) else None


def _slice_rule(node: onnx_ir.Node, row: Row) -> Rows | None:
    """Cuts other axes."""
    axes = _numbers(node.inputs[3]) if len(node.inputs) > 3 else None
    dims = _dims(node.outputs[0])
    if axes is None or dims is None or row.axis in (axes % len(dims)):
        return None
    return {0: row}


_RULES: dict[str, Callable[[onnx_ir.Node, Row], Rows | None]] = {
    **dict.fromkeys(("Cast", "Erf", "Gelu", "Neg", "Relu", "Sigmoid", "Sqrt", "Tanh"), _alike),
    # Their scales and zero points are scalars.
    **dict.fromkeys(("DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"), _alike),
    **dict.fromkeys(("Add", "Div", "Mul", "Pow", "Sub", "Where"), _broadcast),
    **dict.fromkeys(("Concat", "LayerNormalization", "Softmax", "Split"), _except_axis),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _product),
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Slice": _slice_rule,
}


def _reshape_to_one_row(node: onnx_ir.Node, axis: int) -> None:
    """Copy the axes up to the row's from the input (0), and give the others, which are known."""
    dims = _dims(node.outputs[0])
    assert dims is not None
    target = [0] * (axis + 1) + [dim for dim in dims[axis + 1 :] if isinstance(dim, int)]
    node.attributes["allowzero"] = onnx_ir.AttrInt64("allowzero", 0)
    node.replace_input_with(1, _constant(node, "shape", np.array(target)))


def _slice(node: onnx_ir.Node, value: onnx_ir.Value, row: Row) -> onnx_ir.Value:
    """Cut one row of `value`, before `node`.

    Of a dequantized tensor the codes are cut: runtimes turn products of dequantized tensors into integer ones.
    """
    assert node.graph is not None
    source = value.producer()
    if source is not None and source.op_type == "DequantizeLinear" and source.inputs[0] is not None:
        codes = _slice(node, source.inputs[0], row)
        copy = onnx_ir.node("DequantizeLinear", [codes, *source.inputs[1:]], dict(source.attributes))
        copy.outputs[0].name = f"{value.name}_row_{row.axis}_{row.index}"
        node.graph.insert_before(node, copy)
        return copy.outputs[0]
    end = row.index + 1 or np.iinfo(np.int64).max  # the last row ends where the tensor does
    bounds = {"start": row.index, "end": end, "axis": row.axis}
    constants = [_constant(node, f"{value.name}_{name}", np.array([bound])) for name, bound in bounds.items()]
    cut = onnx_ir.node("Slice", [value, *constants])
    cut.outputs[0].name = f"{value.name}_row_{row.axis}_{row.index}"
    node.graph.insert_before(node, cut)
    return cut.outputs[0]


def _constant(node: onnx_ir.Node, name: str, array: NDArray[np.int64]) -> onnx_ir.Value:
    name = f"{node.outputs[0].name}_{name}"
    value = onnx_ir.val(name, const_value=onnx_ir.tensor(array.astype(np.int64), name=name))
    assert isinstance(node.graph, onnx_ir.Graph)
    node.graph.register_initializer(value)
    return value


def _numbers(value: onnx_ir.Value | None) -> NDArray[np.int64] | None:
    """Return a constant's numbers, None for what is computed."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def _dims(value: onnx_ir.Value | None) -> Sequence[int | onnx_ir.SymbolicDim] | None:
    return None if value is None or value.shape is None else value.shape.dims


def _integer(node: onnx_ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default
