"""quantize, export: the passes that make what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from compress.commands.chain import Model, data_config, run_passes
from compress.commands.options import Data, Device, Json, Out, Quiet, Seed, build, field
from compress.passes.export import Export
from compress.passes.quantize import Quantize


def quantize(
    model: Model,
    scheme: Annotated[
        Literal["dynamic", "static", "qat", "weight8", "weight4"] | None, field(Quantize, "scheme")
    ] = None,
    embeddings: Annotated[bool | None, field(Quantize, "embeddings", "--embeddings/--no-embeddings")] = None,
    calibration: Annotated[
        Literal["mse", "percentile", "entropy", "minmax"] | None, field(Quantize, "calibration")
    ] = None,
    samples: Annotated[int | None, field(Quantize, "samples")] = None,
    smooth: Annotated[float | None, field(Quantize, "smooth")] = None,
    max_drop: Annotated[float | None, field(Quantize, "max_drop")] = None,
    time_limit: Annotated[float | None, field(Quantize, "time_limit")] = None,
    teacher: Annotated[str | None, field(Quantize, "teacher")] = None,
    epochs: Annotated[float | None, field(Quantize, "epochs")] = None,
    learning_rate: Annotated[float | None, field(Quantize, "learning_rate")] = None,
    block: Annotated[int | None, field(Quantize, "block")] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn weights into int8 or 4 bits; the score before and after is printed and recorded.

    Example: compress quantize runs/small --out runs/int8

    Example: compress quantize runs/small --scheme static --max-drop 0.3 --out runs/int8

    Example: compress quantize runs/small --scheme qat --teacher runs/teacher --out runs/int8

    Example: compress quantize smollm2-135m --scheme weight4 --data movie-reviews --out runs/lm4
    """
    pass_ = build(
        Quantize,
        scheme=scheme,
        embeddings=embeddings,
        calibration=calibration,
        samples=samples,
        smooth=smooth,
        max_drop=max_drop,
        time_limit=time_limit,
        teacher=teacher,
        epochs=epochs,
        learning_rate=learning_rate,
        block=block,
    )
    run_passes([pass_], model, out, data_config(data), seed, device, json, quiet)


def export(
    model: Model,
    opset: Annotated[int | None, field(Export, "opset")] = None,
    mobile: Annotated[bool | None, field(Export, "mobile", "--mobile")] = None,
    bundle: Annotated[bool | None, field(Export, "bundle", "--bundle")] = None,
    report: Annotated[Path | None, field(Export, "report")] = None,
    out: Out = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the ONNX file beside the model and check it against torch.

    Example: compress export runs/int8 --out runs/deploy

    Example: compress export runs/int8 --bundle --out runs/deploy
    """
    run_passes(
        [build(Export, opset=opset, mobile=mobile, bundle=bundle, report=report)],
        model,
        out,
        None,
        seed,
        device,
        json,
        quiet,
    )
