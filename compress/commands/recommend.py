"""recommend: which form of a model is the fastest here and still right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.benchmark.config import BenchConfig
from compress.commands.options import Data, Json, Out, Quiet, Seed, build, field, finish

if TYPE_CHECKING:
    from compress.recommendation.choice import Verdict


def recommend(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A float model: a folder, a packaged model, a hub id.")
    ],
    data: Data = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, help="Points that the choice may lose against float32.")
    ] = 0.5,
    batch_size: Annotated[list[int] | None, field(BenchConfig, "batch_sizes", "--batch-size")] = None,
    seq_len: Annotated[list[int] | None, field(BenchConfig, "sequence_lengths", "--seq-len")] = None,
    threads: Annotated[int | None, field(BenchConfig, "threads")] = None,
    out: Out = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Try float32 and int8, dynamic and static, in ONNX Runtime and OpenVINO; name the fastest that is right.

    Float32 in ONNX Runtime wins unless an interval shows that something else is faster at every shape.

    Example: compress recommend runs/student --data reviews.csv --batch-size 1 --seq-len 32 128
    """
    from compress import recommendation
    from compress.benchmark import print_table
    from compress.display import silence

    if quiet:
        silence()
    config = build(BenchConfig, batch_sizes=batch_size, sequence_lengths=seq_len, threads=threads)
    out = out or Path("runs/recommend")
    result = recommendation.recommend(model, config, data, max_drop, out, seed)
    found = recommendation.summary(result)
    if not json:
        print_table(result.report)
        found["others"] = [_line(verdict) for verdict in result.verdicts if verdict != result.best]
    finish({**found, "report": str(out / "bench" / "report.html")}, json)


def _line(verdict: Verdict) -> str:
    """Say in a line how fast an entry is, and what speaks against it."""
    against = f" ({', '.join(verdict.against)})" if verdict.against else ""
    return f"{verdict.name} in {verdict.runtime} {verdict.speedup:.2f}×{against}"
