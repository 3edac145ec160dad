"""Time and score int8 files, ours and the peers', side by side; write `bench/results/quantized.md`.

    python -m bench.quantized                                      # the two fine-tuned models; made where missing
    python -m bench.quantized --add quickstart=runs/quickstart/06-distill

Each model is a bench of its own: every file in a process of its own, one thread, taking turns in rounds, scored on
the same test rows. The reference is the file that `torch.onnx.export` writes with its defaults, in ONNX Runtime
with its defaults. OpenVINO runs too where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from bench.no_retraining.models import CALIBRATION, MODELS, ROOT, Subject, rows_of, subject
from bench.quantized.files import OURS, PEER_FILES, failure, our_folder, peer_folder
from compress.artifact import read_manifest
from compress.benchmark import BenchConfig, Report, Target, run_bench
from compress.benchmark.tables import (
    accuracy_of,
    difference_text,
    entry_rows,
    number,
    shape_name,
    speedup_text,
)
from compress.data import load_data
from compress.hardware import fingerprint

SHAPES = (32, 128)


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", choices=MODELS, default=["l6-mr", "mpnet-mr"], metavar="MODEL")
    parser.add_argument(
        "--add", nargs="*", default=[], metavar="NAME=FOLDER", help="a float model of your own"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "quantized")
    parser.add_argument("--seconds", type=float, default=300, help="of timed runs a model")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "quantized.md")
    options = parser.parse_args()
    work = options.work.absolute()
    models = {name: subject(name, work) for name in options.models}
    models |= {name: rows_of(name, Path(folder).absolute(), work) for name, folder in map(_pair, options.add)}
    lines, reports = [], {}
    for name, model in models.items():
        report, failed = measure(name, model, work / name, options.seconds)
        reports[name] = report.model_dump(mode="json")
        lines += [
            f"## {name}",
            "",
            *table(report),
            "",
            *(f"- {line}" for line in (*report.notes, *failed)),
            "",
        ]
    machine = fingerprint()
    text = "\n".join([*_introduction(), *lines, *_setting(machine)]) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    options.out.with_suffix(".json").write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(text)


def measure(name: str, model: Subject, work: Path, seconds: float) -> tuple[Report, list[str]]:
    """Bench all files of a model; return the report, and a line for each peer that wrote none."""
    openvino = importlib.util.find_spec("openvino") is not None
    targets, failed = [], []
    for peer in PEER_FILES:
        made = peer_folder(peer, model.folder, model.calibration, work)
        if isinstance(made, Path) and (words := failure(made, model.calibration)):
            made = words
        if isinstance(made, str):
            failed.append(f"{peer.title} gave no file that can be compared: `{made}`")
        else:
            targets.append(Target(peer.title, made, peer.runtimes))
    targets += [Target(title, our_folder(model.folder, passes, work), runs) for title, passes, runs in OURS]
    here = [
        Target(target.name, target.folder, runtimes)
        for target in targets
        if (runtimes := tuple(each for each in target.runtimes or () if openvino or each == "onnxruntime"))
    ]
    if not openvino:
        failed.append("OpenVINO is not installed here, so it did not run")
    config = BenchConfig(
        runtimes=("onnxruntime", "openvino", "openvino-bf16") if openvino else ("onnxruntime",),
        batch_sizes=(1,),
        sequence_lengths=SHAPES,
        rounds=20,
        seconds=seconds,
        accuracy_batch_size=1,
    )
    data = read_manifest(model.folder).data
    task = read_manifest(model.folder).task
    assert data is not None
    assert task is not None
    test = load_data(data).aligned(task).test
    return run_bench(here, config, test, work / "bench", seed=0), failed


def table(report: Report) -> list[str]:
    """Return a Markdown line for each file in each runtime."""
    head = ["file", "runtime", "MB", "accuracy (95%)", "against first (95%)", "agree"]
    lines = []
    shapes: list[str] = []
    for rows in entry_rows(report):
        shapes = [shape_name(row) for row in rows]
        scored = accuracy_of(report, rows[0])
        assert scored is not None
        low, high = scored.metric.ci95
        change = scored.difference_with_first
        cells = [rows[0].name, rows[0].runtime, number(rows[0].size_mb)]
        cells += [f"{scored.metric.value:.2f} [{low:.1f}, {high:.1f}]"]
        cells += [
            "–"
            if change is None
            else f"{difference_text(change, 'accuracy')} [{change.ci95[0]:+.1f}, {change.ci95[1]:+.1f}]"
        ]
        cells += [f"{scored.agreement_with_first:.1f}%"]
        cells += ["1" if change is None else speedup_text(row.speedup_vs_first) for row in rows]
        lines.append(f"| {' | '.join(cells)} |")
    head += [f"faster, {shape}" for shape in shapes]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]


def _pair(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    return name, folder


def _introduction() -> list[str]:
    return [
        "# int8 beside its peers",
        "",
        "`python -m bench.quantized`",
        "",
        "The first line of each table is what users begin with: the file that `torch.onnx.export` writes by",
        "default, in ONNX Runtime with its defaults, one thread. Static quantizers saw the same",
        f"{CALIBRATION} training rows, ours as many of its own drawing. Files were scored one sentence a call.",
        "Intervals are 95%: Wilson for an accuracy, paired (Agresti and Min) for a difference on the same test",
        "rows, Student's t over rounds for a ratio of times. n.s.: no difference is shown.",
        "",
    ]


def _setting(machine: dict[str, object]) -> list[str]:
    versions = machine["versions"]
    assert isinstance(versions, dict)
    flags = machine["cpu_flags"]
    assert isinstance(flags, list)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        "## Setting",
        "",
        f"{machine['processor']}, {machine['cores']} cores ({' '.join(flags)}); "
        f"Python {machine['python']}, {packages}.",
    ]


if __name__ == "__main__":
    main()
