"""Latency, memory and accuracy of model folders side by side, with the proof.

Imported lazily: the onnxruntime worker lives in this package and must not pay for torch or pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.benchmark.config import BenchConfig
    from compress.benchmark.harness import run_bench
    from compress.benchmark.report import Report
    from compress.benchmark.targets import Entry, Target
    from compress.benchmark.terminal import print_table

__all__ = ["BenchConfig", "Entry", "Report", "Target", "print_table", "run_bench"]

_HOMES = {
    "BenchConfig": "config",
    "Entry": "targets",
    "Report": "report",
    "Target": "targets",
    "print_table": "terminal",
    "run_bench": "harness",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
