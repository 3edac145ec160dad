"""What is read for one row only is computed for one row only, and comes out the same."""

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_models import tiny_artifact, tiny_model

from compress.exporting import export_onnx
from compress.exporting.examples import example
from compress.exporting.rows import read_rows_only

WIDTH = 8


def constant(name, values, dtype=np.int64):
    return numpy_helper.from_array(np.array(values, dtype), name)


def program(nodes, constants, outputs):
    """A graph on x, float32 (batch, length, 8), with the shapes of all its values."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", WIDTH])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "graph", [x], ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def answers(model, rows=3, length=5):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((rows, length, WIDTH)).astype(np.float32)
    return session.run(None, {"x": x})


def shrunk(model):
    """The model with unread rows left out, and how many nodes changed."""
    changed = onnx_ir.from_proto(model)
    count = read_rows_only(changed)
    for value in (value for node in changed.graph for value in node.outputs):
        value.shape = None  # the tracer's are stale now
    return onnx_ir.to_proto(changed), count


def head(index):
    """A residual block read at one position: `(x + gelu(x w))[:, index]`."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Gelu", ["product"], ["active"]),
        helper.make_node("Add", ["active", "x"], ["sum"]),
        helper.make_node("Gather", ["sum", "index"], ["answer"], axis=1),
    ]
    weight = constant("w", rng.standard_normal((WIDTH, WIDTH)), np.float32)
    return nodes, [weight, constant("index", index)]


@pytest.mark.parametrize("index", [0, 2, -1])
def test_rows_that_nothing_reads_are_not_computed(index):
    model = program(*head(index), ["answer"])

    changed, count = shrunk(model)

    assert count == 3  # MatMul, Gelu, Add; x is cut, once
    assert [node.op_type for node in changed.graph.node].count("Slice") == 1
    np.testing.assert_allclose(answers(changed)[0], answers(model)[0], rtol=1e-6)


def test_a_tensor_that_someone_reads_whole_stays_whole():
    nodes, constants = head(0)
    model = program(nodes, constants, ["answer", "active"])

    changed, count = shrunk(model)

    assert count == 1  # the Add alone; what it adds is also an answer
    for got, wanted in zip(answers(changed), answers(model), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_readers_of_different_rows_need_all():
    nodes, constants = head(0)
    nodes.append(helper.make_node("Gather", ["sum", "other"], ["second"], axis=1))
    model = program(nodes, [*constants, constant("other", 1)], ["answer", "second"])

    changed, count = shrunk(model)

    assert count == 0
    assert changed.graph.node == model.graph.node


def test_what_mixes_rows_is_computed_from_all_of_them():
    nodes = [
        helper.make_node("Softmax", ["x"], ["mixed"], axis=1),  # over the rows
        helper.make_node("Add", ["mixed", "x"], ["sum"]),
        helper.make_node("Gather", ["sum", "index"], ["answer"], axis=1),
    ]
    model = program(nodes, [constant("index", 0)], ["answer"])

    changed, count = shrunk(model)

    assert count == 1  # the Add; the softmax needs every row
    np.testing.assert_allclose(answers(changed)[0], answers(model)[0], rtol=1e-6)


def test_heads_are_split_and_joined_behind_the_row():
    split, joined = constant("split", [0, 0, 2, 4]), constant("joined", [0, 0, 8])
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["parts"]),
        helper.make_node("Transpose", ["parts"], ["heads"], perm=[0, 2, 1, 3]),
        helper.make_node("Transpose", ["parts"], ["keys"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["heads", "keys"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "heads"], ["context"]),
        helper.make_node("Transpose", ["context"], ["back"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["back", "joined"], ["hidden"]),
        helper.make_node("Gather", ["hidden", "index"], ["answer"], axis=1),
    ]
    model = program(nodes, [split, joined, constant("index", 0)], ["answer"])

    changed, count = shrunk(model)

    assert count == 5  # from the scores on; queries, keys and values are one tensor here, read whole
    np.testing.assert_allclose(answers(changed)[0], answers(model)[0], rtol=1e-5)


def rows_of_norms(path, artifact, length=6):
    """The rows that each LayerNorm of a file gives for one text of `length` tokens, in order."""
    model = onnx.load(path)
    norms = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in norms)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = example(artifact.model, artifact.tokenizer, [length], torch.Generator().manual_seed(0))
    return [
        got.shape[1] for got in session.run(norms, {name: value.numpy() for name, value in batch.items()})
    ]


def test_an_exported_classifier_does_its_last_layer_for_one_token(tmp_path):
    artifact = tiny_artifact(tiny_model("bert", layers=2))

    path = export_onnx(artifact, tmp_path)

    assert rows_of_norms(path, artifact) == [6, 6, 6, 1, 1]  # embeddings; two a layer
