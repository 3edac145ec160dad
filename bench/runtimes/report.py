"""The table of `bench/results/runtimes.md`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.runtimes.clients import Answers
from compress.benchmark.markdown import to_table
from compress.benchmark.tables import Table, number
from compress.hardware import fingerprint


@dataclass(frozen=True)
class Row:
    """One runtime on one file: its answers, or why there are none, and torch's probabilities."""

    runtime: str
    precision: str
    answers: Answers | str
    reference: NDArray[np.float64]

    def cells(self) -> list[str]:
        """Return the table's line."""
        if isinstance(self.answers, str):
            return [self.runtime, self.precision, f"not run: {self.answers}", *["–"] * 4]
        found = self.answers.probabilities
        equal = int((found.argmax(1) == self.reference.argmax(1)).sum())
        largest = float(np.abs(found - self.reference).max())
        times = [
            "–" if np.isnan(value) else number(value)
            for value in (self.answers.start_s, self.answers.text_ms)
        ]
        exact = self.runtime == "torch"
        return [
            self.runtime,
            self.precision,
            self.answers.version,
            str(equal),
            "–" if exact else f"{largest:.1e}",
            *times,
        ]


def to_markdown(model: str, count: int, rows: Sequence[Row]) -> str:
    """Return the whole page."""
    head = ["runtime", "file", "version", f"equal of {count}", "largest difference", "start s", "ms a text"]
    table = to_table(Table(head, [row.cells() for row in rows], text_columns=3))
    machine = fingerprint()
    return (
        f"# One file, every runtime\n\n`python -m bench.runtimes {model}`\n\n"
        f"The first {count} sentences of the model's test split, one a call, one thread, answered by the float32 "
        "and by the int8 file of one fine-tuned model, each from its bundle. *Equal*: answers that are those of "
        "torch with the same weights. *Largest difference*: of a probability, from torch's. *Start*: a process "
        "that answers one sentence, from start to end; for the browser, from asking for the page until it can "
        "answer. Times were taken one after the other on a shared machine: they show what is fast and what is "
        "slow, not more.\n\n"
        f"{table}\n\n"
        f"{machine['processor']}, {machine['usable_cores']} cores ({' '.join(machine['cpu_flags'])}).\n"
    )
