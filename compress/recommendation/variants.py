"""The forms of a model that are worth trying on a machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from compress.benchmark.config import Runtime
from compress.passes.base import Pass
from compress.passes.export import Export
from compress.passes.quantize import Quantize
from compress.pipeline import Step

# Instructions that multiply int8, and bfloat16, faster than float32.
_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True)
class Variant:
    """A way to quantize and where its file runs."""

    name: str
    passes: tuple[Pass, ...]
    runtimes: tuple[Runtime, ...]

    def steps(self, out: Path) -> list[Step]:
        """Return its passes with the folders below `out` that their results lie in."""
        home = out / self.name
        return [Step(each, home / f"{number}-{each.name}") for number, each in enumerate(self.passes, 1)]


def sensible_variants(
    flags: Collection[str], has_data: bool, has_openvino: bool | None = None
) -> tuple[list[Variant], list[str]]:
    """Return the variants to try, float32 in ONNX Runtime first, and what is left out and why.

    Args:
        flags: the processor's instruction sets, `compress.hardware.cpu_flags`.
        has_data: whether there are texts to calibrate on.
        has_openvino: whether OpenVINO is installed; None looks.
    """
    if has_openvino is None:
        has_openvino = importlib.util.find_spec("openvino") is not None
    left_out = []
    if not has_openvino:
        left_out.append("OpenVINO is not installed (pip install 'compress-transformers[openvino]')")
    elif not _BF16 & set(flags):
        left_out.append("OpenVINO in bfloat16: this processor does not compute in it")
    if not _INT8 & set(flags):
        left_out.append("no int8 instructions are known here: int8 is tried, but may be slower than float32")
    both: tuple[Runtime, ...] = ("onnxruntime", "openvino") if has_openvino else ("onnxruntime",)
    with_bf16: tuple[Runtime, ...] = ("openvino-bf16",) if has_openvino and _BF16 & set(flags) else ()
    variants = [
        Variant("float32", (Export(),), (*both, *with_bf16)),
        Variant("int8-dynamic", (Quantize(), Export()), ("onnxruntime",)),
    ]
    if has_data:
        variants.append(Variant("int8-static", (Quantize(scheme="static"), Export()), both))
    else:
        left_out.append("static int8: there are no texts to calibrate on; give --data")
    return variants, left_out
