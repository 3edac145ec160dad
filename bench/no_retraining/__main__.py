"""The command of the suite."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from bench.no_retraining.cells import is_finished, measure
from bench.no_retraining.methods import DENSE, METHODS
from bench.no_retraining.models import CALIBRATION, MODELS, ROOT, subject
from bench.no_retraining.plot import draw
from bench.no_retraining.report import record, tables
from compress.display import say
from compress.hardware import fingerprint

INTRODUCTION = (
    f"Every method sees the same {CALIBRATION} training examples and no others. Shares are of the weights of query,",
    "key, value, output and both feed-forward matrices of all layers, biases left out; what a method really reached",
    "is counted on its result. Intervals are 95%: Wilson for an accuracy, paired (Agresti and Min) for a difference",
    "to the dense model on the same test rows. Reloading is tried in a fresh process of the method's own environment,",
    "with plain `from_pretrained` on what the method saves: yes means the same logits bit for bit.",
)


def main() -> None:
    """Measure what is not measured yet, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "no-retraining", help="models and finished cells"
    )
    parser.add_argument(
        "--finished", action="store_true", help="measure nothing: the tables of what is on disk already"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "no_retraining.md")
    options = parser.parse_args()
    work = options.work.absolute()
    records = []
    for model in options.models:
        rows = subject(model, work)
        dense = measure(model, rows, DENSE, METHODS[DENSE], 0.0, work)
        records.append(record(dense, dense))
        for name in options.methods:
            for share in () if name == DENSE else METHODS[name].shares:
                if options.finished and not is_finished(model, rows, name, METHODS[name], share, work):
                    continue
                cell = measure(model, rows, name, METHODS[name], share, work)
                records.append(record(cell, dense))
                say(f"{model} {name} {share:g}: {records[-1].get('accuracy', cell.facts.get('error'))}")
    machine = fingerprint()
    lines = [
        "# Accuracy without retraining",
        "",
        "`python -m bench.no_retraining`",
        "",
        *INTRODUCTION,
        "",
        f"![accuracy by share of weights left]({options.out.with_suffix('.svg').name})",
        "",
        *tables(records),
        *_setting(options.models, machine),
    ]
    text = "\n".join(lines) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    stored = {"machine": machine, "calibration_examples": CALIBRATION, "cells": records}
    options.out.with_suffix(".json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    draw(records, options.out.with_suffix(".svg"))
    sys.stdout.write(text)


def _setting(models: list[str], machine: dict[str, Any]) -> list[str]:
    """Say what the numbers were taken with."""
    lines = ["## Setting", "", "Dense models:", ""]
    lines += [f"- `python cli.py {shlex.join(MODELS[model].arguments(Path(model)))}`" for model in models]
    lines += ["", "Environments of the peers:", ""]
    for path in dict.fromkeys(method.requirements for method in METHODS.values() if method.requirements):
        lines.append(f"- {path.parent.name}: `{' '.join(path.read_text(encoding='utf-8').split())}`")
    flags, versions = " ".join(machine["cpu_flags"]), machine["versions"]
    own = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers") if name in versions)
    lines += [
        "",
        f"{machine['processor']}, {machine['cores']} cores ({flags}); Python {machine['python']}, {own}.",
    ]
    return lines


if __name__ == "__main__":
    main()
