"""Which versions of ONNX's operators the installed ONNX Runtime knows."""

from __future__ import annotations


def runs_opset(version: int) -> bool:
    """Say whether ONNX Runtime opens a graph of this opset, by trying one LayerNormalization."""
    import onnxruntime
    from onnx import TensorProto, helper

    names = ("x", "scale", "y")
    x, scale, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names)
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y"])
    graph = helper.make_graph([node], "probe", [x, scale], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # its own kinds, one for each status code
        return False
    return True
