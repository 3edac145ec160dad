"""From a torch model to a checked ONNX file."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir
import torch
from torch import Tensor

from compress.errors import InputError, first_line
from compress.exporting.examples import example, output_names
from compress.exporting.graph import check_graph, tidy
from compress.exporting.mobile import write_ort
from compress.exporting.parity import check_parity
from compress.exporting.traceable import traceable
from compress.layers import Int8Embedding, Int8Linear, WeightOnlyLinear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.artifact import Artifact

OPSET = 20  # the first with a Gelu of its own; ONNX Runtime 1.17 and later run it
SINGLE_FILE = 2_000_000_000  # bytes; protobuf ends at 2^31


def export_onnx(
    artifact: Artifact,
    folder: Path,
    notes: list[str] | None = None,
    opset: int = OPSET,
    mobile: bool = False,
) -> Path:
    """Write a model's ONNX file and check it against the model.

    Inputs are those of `input_ids`, `attention_mask` and `token_type_ids` that model and tokenizer share, int64
    (batch, length), both free. The output is `logits`; for questions `start_logits` and `end_logits`; for a model
    without a head, as an embedding is, `last_hidden_state`. The file holds int8 codes exactly as the model does.
    Weights beyond 2 GB go to a second file, `….onnx.data`.

    Args:
        artifact: what to export; it is not changed.
        folder: the file goes to `onnx/` below it.
        notes: gets one line each on size, operators and parity.
        opset: version of ONNX's operators, from 17 on.
        mobile: whether to write the graph in ONNX Runtime's own format too, `….ort`, checked alike.

    Returns:
        `onnx/model.onnx`, or `onnx/model_quantized.onnx` for a model with quantized weights.

    Raises:
        InputError: the model cannot be traced, or not be written as `.ort`.
        CompressError: the file does not compute what the model computes; it is removed.
    """
    model = artifact.model
    if model.device.type != "cpu" or model.dtype != torch.float32:
        model = copy.deepcopy(model).to("cpu").float()  # type: ignore[arg-type]
    # Neither 0 nor 1 rows or tokens, which the tracer takes for constants.
    sample = example(model, artifact.tokenizer, [7, 7], torch.Generator().manual_seed(0))
    traced = traceable(model)
    outputs = output_names(model)
    program = tidy(_trace(traced, sample, opset), outputs)
    kinds = Int8Linear | Int8Embedding | WeightOnlyLinear
    quantized = any(isinstance(module, kinds) for module in model.modules())
    path = folder / "onnx" / ("model_quantized.onnx" if quantized else "model.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(program, path)
        facts = check_graph(path, traced, sample)
        answers = (model, artifact.tokenizer, artifact.manifest.task, outputs)
        facts += check_parity(path, *answers)
        if mobile:
            ort = write_ort(path)
            facts += [f"{ort.name}: {fact}" for fact in check_parity(ort, *answers)]
    except BaseException:
        for written in path.parent.glob(f"{path.stem}.*"):
            written.unlink()
        raise
    if notes is not None:
        notes.extend(facts)
    return path


def _write(program: onnx_ir.Model, path: Path) -> None:
    size = sum(value.const_value.nbytes for value in program.graph.initializers.values() if value.const_value)
    onnx_ir.save(program, path, external_data=f"{path.name}.data" if size > SINGLE_FILE else None)


def _trace(model: PreTrainedModel, sample: dict[str, Tensor], opset: int) -> onnx_ir.Model:
    """Trace with `torch.onnx`, and where that fails with transformers' exporter, which patches more models.

    Where both work they gave the same graph, and torch alone is faster and no experimental interface.
    """
    free = {name: dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC) for name in sample}
    with _silence(), torch.no_grad():
        try:
            program = torch.onnx.export(
                model,
                (),
                kwargs=sample,
                dynamic_shapes=free,
                input_names=list(sample),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            return program.model
        except Exception as error:  # the tracer raises whatever the model's code runs into
            return _trace_patched(model, sample, free, opset, error)


def _trace_patched(
    model: PreTrainedModel,
    sample: dict[str, Tensor],
    free: dict[str, dict[int, object]],
    opset: int,
    first: Exception,
) -> onnx_ir.Model:
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    try:
        config = OnnxConfig(dynamic=True, dynamic_shapes=free, opset_version=opset)
        exporter = OnnxExporter()
        program: onnx_ir.Model = exporter.export(model, dict(sample), config=config).program
        return program
    except Exception as error:
        reasons = f"{_root(first)}; with transformers' exporter: {_root(error)}"
        raise InputError(
            f"the model cannot be traced to ONNX ({reasons})",
            place=model.config.model_type,
            remedy="docs/families.md says which families can be exported; all other steps work without.",
        ) from error


def _root(error: BaseException) -> str:
    """Return the first line of what an error began with: the tracers wrap it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


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
