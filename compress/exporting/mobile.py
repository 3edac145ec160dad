"""ONNX Runtime's own format, `.ort`, which its mobile builds read: an optimized graph that needs no parser."""

from __future__ import annotations

from pathlib import Path

from compress.errors import InputError, first_line


def write_ort(path: Path) -> Path:
    """Write an ONNX file's graph as `.ort` beside it.

    The graph is optimized at the level "extended", whose fusions do not depend on the processor, so that a file
    made here runs on a phone.

    Args:
        path: the ONNX file, all in one.

    Returns:
        The file of the same name that ends in `.ort`.

    Raises:
        InputError: ONNX Runtime cannot write it: the format ends at 2 GB.
    """
    import onnxruntime

    out = path.with_suffix(".ort")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    options.add_session_config_entry("session.save_model_format", "ORT")
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as failure:  # its own kinds, one for each status code
        out.unlink(missing_ok=True)
        raise InputError(
            f"ONNX Runtime cannot write the model as .ort ({first_line(failure)})",
            place=path.name,
            remedy="Leave mobile out; the ONNX file itself is not concerned.",
        ) from failure
    return out
