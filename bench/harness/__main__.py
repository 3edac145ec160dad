"""Measure all of it, print and write `bench/results/harness.md`.

python -m bench.harness                          # half an hour on 2 quiet cores; benches that are done are kept
python -m bench.harness --parts intervals        # one part alone, printed
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.harness import gate, intervals, overhead
from bench.no_retraining.models import ROOT
from compress.benchmark.comparison import Limits
from compress.hardware import fingerprint

PARTS = ("intervals", "overhead", "gate")


def main() -> None:
    """Measure the parts asked for; write the file where they are all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--trials", type=int, default=2000, help="simulated benches for each interval")
    parser.add_argument(
        "--repeats", type=int, default=21, help="real benches, each with and without the slower model"
    )
    parser.add_argument("--seconds", type=float, default=15, help="timed seconds of a real bench")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "harness")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "harness.md")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    lines = ["# Can the bench be believed", "", "`python -m bench.harness`"]
    if "intervals" in options.parts:
        lines += [
            "",
            "## Intervals of a speed-up",
            "",
            f"Share of 95% intervals that cover the true ratio, {options.trials:,} simulated benches each, 10 runs a",
            "round; moments of 30% hit both models of a round alike.",
            "",
            *intervals.table(options.trials),
        ]
    if "overhead" in options.parts:
        lines += ["", "## What a call costs the harness", "", "A graph that does nothing, ONNX Runtime.", ""]
        lines += overhead.table(work)
    if "gate" in options.parts:
        pairs = gate.measure(work, options.repeats, options.seconds)
        lines += [
            "",
            "## The gate",
            "",
            f"`compress compare` with its defaults on {options.repeats} real benches of {options.seconds:g} s: 6",
            "layers of minilm-l6 and its first 5, batch 1, 32 and 128 tokens, ONNX Runtime. Each is compared with the",
            "next one, and with the next one in which all 6 layers stand in the 5 layers' place.",
            "",
            *gate.table(pairs, Limits()),
        ]
    machine = fingerprint()
    lines += ["", f"{machine['processor']}, {machine['cores']} cores ({' '.join(machine['cpu_flags'])})."]
    text = "\n".join(lines) + "\n"
    if len(options.parts) == len(PARTS):
        options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
