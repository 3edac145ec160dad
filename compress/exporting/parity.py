"""Does the file compute what the model computes?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress.errors import CompressError, InputError, first_line
from compress.exporting.examples import example, longest_input
from compress.exporting.traceable import with_float_activations
from compress.layers import Int8Linear, StaticInt8Linear

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compress.tasks import Task

FLOAT_TOLERANCE = 1e-4  # of the largest output; float32 sums in another order differ by about 1e-6
INT8_TOLERANCE = 4.0  # times the error of rounding activations at all
STATIC_TOLERANCE = 2.0  # the same where every range is fixed


def check_parity(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task | None,
    outputs: Sequence[str],
) -> list[str]:
    """Compare a file in ONNX Runtime with the torch model, at shapes that the tracer did not see.

    Float: no output may differ by more than 1e-4 of the largest one. Int8: two runtimes add floats in another
    order, so now and then an activation falls on the other side of a rounding boundary, and what follows differs
    by as much as rounding itself may change it. So both are answers of one model with different rounding noise:
    with `q` the largest difference between the torch model and the same weights without rounded activations,
    they may differ by `2q` if the largest errors met with opposite signs. That is what static int8 is allowed.
    Dynamic int8 is allowed twice that, as its ranges too move with what came before.

    Args:
        path: the ONNX file.
        model: float32 on the CPU, in eval mode.
        tokenizer: gives the pad token and its side.
        task: gives the longest input; None for a model without a head.
        outputs: names of the outputs that make the answer.

    Returns:
        One line with the largest difference and what was allowed.

    Raises:
        CompressError: they differ more, or ONNX Runtime cannot run the file.
        InputError: the torch model itself cannot read one of the inputs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised too
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as failure:  # its own kinds, one for each status code
        raise _differs(path, f"ONNX Runtime cannot open it ({first_line(failure)})") from failure
    int8 = any(isinstance(module, Int8Linear) for module in model.modules())
    unrounded = with_float_activations(model) if int8 else None
    error = rounding = scale = 0.0
    shapes = []
    output = " and ".join(outputs)
    for batch in _batches(model, tokenizer, task):
        shape = "×".join(map(str, batch["input_ids"].shape))
        expected = _outputs(model, batch, outputs)
        try:
            got = joined(session.run(list(outputs), {name: value.numpy() for name, value in batch.items()}))
        except Exception as failure:
            raise _differs(path, f"ONNX Runtime fails at {shape} tokens ({first_line(failure)})") from failure
        if got.shape != expected.shape:
            raise _differs(path, f"{output} has shape {got.shape}, not {expected.shape}")
        # A language model's logits are for every token, a classifier's for the text.
        read = slice(None) if got.ndim == 2 else batch["attention_mask"].numpy() == 1
        error = max(error, float(np.abs(got - expected)[read].max()))
        scale = max(scale, float(np.abs(expected)[read].max()))
        if unrounded is not None:
            difference = _outputs(unrounded, batch, outputs) - expected
            rounding = max(rounding, float(np.abs(difference)[read].max()))
        shapes.append(shape)
    static = all(isinstance(m, StaticInt8Linear) for m in model.modules() if isinstance(m, Int8Linear))
    tolerance = STATIC_TOLERANCE if static else INT8_TOLERANCE
    allowed = FLOAT_TOLERANCE * max(scale, 0.1) + tolerance * rounding
    if not error <= allowed:  # so that NaN fails too
        raise _differs(path, f"{output} differs from torch's by {error:.2g}; {allowed:.2g} is allowed")
    return [
        f"parity with torch at {', '.join(shapes)}: {output} up to {scale:.3g} differ by {error:.1e} at most "
        f"({allowed:.1e} allowed)"
    ]


def _batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task | None
) -> Iterator[dict[str, Tensor]]:
    """Yield random inputs: one token; a few; the longest; rows of all lengths, down to one token and padding."""
    longest = longest_input(model, task)
    short = min(12, longest)
    generator = torch.Generator().manual_seed(0)
    for lengths in ([1], [short], [longest], [short, max(short // 2, 1), 1], [longest, 1, short, 1]):
        yield example(model, tokenizer, lengths, generator)


@torch.inference_mode()
def _outputs(model: PreTrainedModel, batch: dict[str, Tensor], outputs: Sequence[str]) -> NDArray[np.float32]:
    try:
        found = model(**batch)
        values = joined([found[output].numpy() for output in outputs])
    except Exception as error:  # whatever the model's code runs into
        rows, length = batch["input_ids"].shape
        raise InputError(
            f"the torch model itself fails on {rows} rows of {length} tokens ({first_line(error)})",
            place=model.config.model_type,
            remedy="A file is made only of a model that reads any number of rows of any length.",
        ) from error
    return values


def joined(outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the one output as it is, several side by side on a new last axis."""
    return outputs[0] if len(outputs) == 1 else np.stack(outputs, -1)


def _differs(path: Path, cause: str) -> CompressError:
    return CompressError(
        f"the exported file does not compute what the model computes: {cause}",
        place=path.name,
        remedy="The file was removed. Please report the model's config and the versions of torch and onnx.",
    )
