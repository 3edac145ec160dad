"""Make the variants, measure them side by side, recommend one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from compress import folders, pipeline
from compress.artifact import read_config, read_manifest
from compress.benchmark import BenchConfig, Report, Target, run_bench
from compress.data import load_data
from compress.data.config import DataConfig
from compress.display import say
from compress.errors import CompressError, InputError
from compress.hardware import cpu_flags
from compress.recommendation.choice import Verdict, best, judge
from compress.recommendation.variants import sensible_variants
from compress.reload import is_quantized
from compress.sources import resolve_model


@dataclass(frozen=True)
class Recommendation:
    """The fastest form that is still right.

    Attributes:
        folder: the exported folder to ship.
        best: its entry in the bench.
        verdicts: every entry, float32 in ONNX Runtime first.
        left_out: what was not tried or compared, and why.
        report: all that was measured.
    """

    folder: Path
    best: Verdict
    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...]
    report: Report


def recommend(
    model: str, config: BenchConfig, data: str | None, max_drop: float, out: Path, seed: int = 0
) -> Recommendation:
    """Try the forms of a float model that make sense on this machine, each in its runtimes, and choose.

    Variants lie in folders of `out`, each ready to ship; a second call makes none of them again. `out/bench` has
    the report, `out/recommendation.json` the choice.

    Args:
        model: a float32 model: a folder or a name.
        config: shapes, threads and effort of the bench; its runtimes are not used.
        data: texts to calibrate and to score on; None: what the model was trained on, if that is known.
        max_drop: points of the main metric that the choice may lose against float32.
        out: the folder of it all.
        seed: of everything random.

    Raises:
        InputError: the model is int8 already, or model, data or `out` cannot be used.
        CompressError: float32 cannot be exported, so that there is nothing to compare with.
    """
    folders.check_output(out, run=True)
    source = resolve_model(model).path
    if is_quantized(read_config(source)):
        raise InputError(
            "the model is int8 already, so its float32 form is gone",
            place=f"recommend: {model}",
            remedy="Give the folder from before it was quantized.",
        )
    manifest = read_manifest(source)
    origin = DataConfig(source=data) if data else manifest.data
    variants, left_out = sensible_variants(cpu_flags(), has_data=origin is not None)
    out.mkdir(parents=True, exist_ok=True)
    (out / folders.RUN).write_text(json.dumps({"recommend": model}) + "\n", encoding="utf-8")
    targets: list[Target] = []
    for variant in variants:
        say(f"variant {variant.name}")
        try:
            chain = pipeline.plan(model, variant.steps(out), origin, seed)
            done = pipeline.run(chain, out / ".work")
        except CompressError as error:
            if not targets:
                raise
            left_out.append(f"{variant.name}: {error}")
            continue
        targets.append(Target(variant.name, done[-1], variant.runtimes))
    test = None
    if origin is not None and manifest.task is not None:
        test = (
            load_data(origin.posing(manifest.task))
            .aligned(manifest.task, f"data {origin.source}")
            .scored_test
        )
    if test is None:
        left_out.append("answers: without a test set and a trained head speed alone decides")
    report = run_bench(targets, config, test, out / "bench", seed)
    verdicts = judge(report, max_drop)
    chosen = best(verdicts)
    folder = next(target.folder for target in targets if target.name == chosen.name)
    result = Recommendation(folder, chosen, tuple(verdicts), tuple(left_out), report)
    (out / "recommendation.json").write_text(json.dumps(summary(result), indent=2) + "\n", encoding="utf-8")
    return result


def summary(result: Recommendation) -> dict[str, object]:
    """Return the choice and its reasons as plain values; the measurements are in the bench's report."""
    return {
        "recommended": f"{result.best.name} in {result.best.runtime}",
        "folder": str(result.folder),
        "speedup": round(result.best.speedup, 2),
        "others": [asdict(verdict) for verdict in result.verdicts if verdict != result.best],
        "left_out": list(result.left_out),
    }
