"""From a torch model to a checked ONNX file."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir
import torch
from torch import Tensor

from compress.errors import InputError
from compress.exporting.graph import check_graph, tidy
from compress.exporting.parity import check_parity
from compress.exporting.traceable import traceable
from compress.layers import Int8Embedding, Int8Linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compress.artifact import Artifact

OPSET = 20  # the first with a Gelu of its own; ONNX Runtime 1.17 and later run it
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SINGLE_FILE = 2_000_000_000  # bytes; protobuf ends at 2^31


def export_onnx(artifact: Artifact, folder: Path, notes: list[str] | None = None) -> Path:
    """Write a model's ONNX file and check it against the model.

    Inputs are those of `input_ids`, `attention_mask` and `token_type_ids` that model and tokenizer share, int64
    (batch, length), both free. The output is `logits`, or `last_hidden_state` for a model without a head. The
    file holds int8 codes exactly as the model does. Weights beyond 2 GB go to a second file, `….onnx.data`.

    Args:
        artifact: what to export; it is not changed.
        folder: the file goes to `onnx/` below it.
        notes: gets one line each on size, operators and parity.

    Returns:
        `onnx/model.onnx`, or `onnx/model_quantized.onnx` for a model with int8 weights.

    Raises:
        InputError: the model cannot be traced.
        CompressError: the file does not compute what the model computes; it is removed.
    """
    model = artifact.model
    if model.device.type != "cpu" or model.dtype != torch.float32:
        model = copy.deepcopy(model).to("cpu").float()  # type: ignore[arg-type]
    inputs = input_names(model, artifact.tokenizer)
    traced = traceable(model)
    output = "last_hidden_state" if model.base_model is model else "logits"
    program = tidy(_trace(traced, inputs, output), output)
    int8 = any(isinstance(module, Int8Linear | Int8Embedding) for module in model.modules())
    path = folder / "onnx" / ("model_quantized.onnx" if int8 else "model.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(program, path)
        facts = check_graph(path, traced, inputs)
        facts += check_parity(path, model, artifact.tokenizer, artifact.manifest.task, inputs, output)
    except BaseException:
        for written in path.parent.glob(f"{path.name}*"):
            written.unlink()
        raise
    if notes is not None:
        notes.extend(facts)
    return path


def input_names(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the inputs that the tokenizer makes and the model reads, in the order of `INPUTS`."""
    reads = inspect.signature(model.forward).parameters
    return tuple(name for name in INPUTS if name in reads and name in tokenizer.model_input_names)


def _write(program: onnx_ir.Model, path: Path) -> None:
    size = sum(value.const_value.nbytes for value in program.graph.initializers.values() if value.const_value)
    onnx_ir.save(program, path, external_data=f"{path.name}.data" if size > SINGLE_FILE else None)


def _trace(model: PreTrainedModel, inputs: tuple[str, ...], output: str) -> onnx_ir.Model:
    """Trace with `torch.onnx`, and where that fails with transformers' exporter, which patches more models.

    Where both work they gave the same graph, and torch alone is faster and no experimental interface.
    """
    shape = (2, 7)  # neither 0 nor 1, which the tracer takes for constants
    example: dict[str, Tensor] = {
        name: (torch.zeros if name == "token_type_ids" else torch.ones)(shape, dtype=torch.int64)
        for name in inputs
    }
    free = {name: dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC) for name in inputs}
    with _silence(), torch.no_grad():
        try:
            program = torch.onnx.export(
                model,
                (),
                kwargs=example,
                dynamic_shapes=free,
                input_names=inputs,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            return program.model
        except Exception as error:  # the tracer raises whatever the model's code runs into
            return _trace_patched(model, example, free, error)


def _trace_patched(
    model: PreTrainedModel, example: dict[str, Tensor], free: dict[str, dict[int, object]], first: Exception
) -> onnx_ir.Model:
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    try:
        config = OnnxConfig(dynamic=True, dynamic_shapes=free, opset_version=OPSET)
        exporter = OnnxExporter()
        program: onnx_ir.Model = exporter.export(model, dict(example), config=config).program
        return program
    except Exception as error:
        raise InputError(
            f"the model cannot be traced to ONNX ({_line(first)}; with transformers' exporter: {_line(error)})",
            place=model.config.model_type,
            remedy="Encoders with a classification head are what export is made for.",
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the tracers' progress, deprecations and version remarks from stdout and the log."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
