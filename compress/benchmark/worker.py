"""The process that holds one model in one runtime: `python -m compress.benchmark.worker '{"runtime": …}'`.

It answers one JSON object a line with one JSON object a line, and ends when its input ends: no parent, no
worker. Every answer but the first belongs to a request:

    (start)                                        {"load_s": seconds}
    {"do": "warm", "inputs": file, "seconds": s}   {"seconds": of one run, once stable,
                                                    "first": of the first run}
    {"do": "time", "inputs": file, "runs": n,
     "discard": k}                                 {"nanoseconds": [n times]}
    {"do": "load", "inputs": file, "callers": n,
     "seconds": s}                                 {"nanoseconds": [of each call], "seconds": taken}
    {"do": "predict", "inputs": file,
     "outputs": file}                              {"examples": n}
    {"do": "memory"}                               {"peak_rss": bytes}

Input files are `.npz` archives of arrays named `<input>.<batch>`, each (examples, tokens). A run is one call for each
batch, and its nanoseconds are the mean of its calls'.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.benchmark.engines import Engine, open_engine
from compress.errors import CompressError

_STABLE = 0.05  # warm when the medians of the last three runs and of the three before differ by less
_WARM_RUNS = 30


def main() -> int:
    """Serve requests from stdin until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints on stdout, from C too, goes to stderr
    options = json.loads(sys.argv[1])
    start = time.perf_counter()
    try:
        engine = open_engine(options["runtime"], Path(options["path"]), options["threads"], options["device"])
    except CompressError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    reply: dict[str, Any] = {"load_s": time.perf_counter() - start}
    gc.collect()
    gc.freeze()  # what was loaded stays: later collections need not look at it
    handler = Handler(engine)
    while True:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return 0
        request = json.loads(line)
        reply = getattr(handler, f"do_{request.pop('do')}")(**request)


class Handler:
    """Answers requests; inputs of a shape are placed on the device once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bound: dict[str, Callable[[], int]] = {}

    def do_warm(self, inputs: str, seconds: float) -> dict[str, float]:
        """Run until times are stable, at most for `seconds` (but twice) or `_WARM_RUNS` runs."""
        calls = [self.engine.bind(batch) for batch in read_batches(inputs)]
        self.bound[inputs] = once = calls[0] if len(calls) == 1 else _mean(calls)
        runs: list[float] = []
        start = time.perf_counter()
        while len(runs) < _WARM_RUNS and not (len(runs) >= 2 and time.perf_counter() - start > seconds):
            runs.append(once() / 1e9)
            if len(runs) >= 6 and abs(median(runs[-3:]) / median(runs[-6:-3]) - 1) < _STABLE:
                break
        return {"seconds": len(calls) * median(runs[-3:]), "first": len(calls) * runs[0]}

    def do_time(self, inputs: str, runs: int, discard: int) -> dict[str, list[int]]:
        """Time `runs` runs after `discard` others, with Python's garbage collector off as in `timeit`."""
        once = self.bound[inputs]
        gc.collect()
        gc.disable()
        try:
            for _ in range(discard):
                once()
            return {"nanoseconds": [once() for _ in range(runs)]}
        finally:
            gc.enable()

    def do_load(self, inputs: str, callers: int, seconds: float) -> dict[str, Any]:
        """Call from so many threads at once for a while, each one call after the other."""
        calls = [self.engine.bind(next(read_batches(inputs))) for _ in range(callers)]
        start = time.perf_counter()

        def ask(once: Callable[[], int]) -> list[int]:
            taken = [once()]
            while time.perf_counter() - start < seconds:
                taken.append(once())
            return taken

        with ThreadPoolExecutor(callers) as pool:
            taken = [each for found in pool.map(ask, calls) for each in found]
        return {"nanoseconds": taken, "seconds": time.perf_counter() - start}

    def do_predict(self, inputs: str, outputs: str) -> dict[str, int]:
        """Write the answers to all batches, rows of inputs or of tokens one under the other, as a `.npy` file."""
        answers, examples = [], 0
        for batch in read_batches(inputs):
            answer = self.engine.predict(batch)
            # Of what is said of tokens, padding is left out.
            answers.append(answer[batch["attention_mask"] == 1] if answer.ndim == 3 else answer)
            examples += len(answer)
        np.save(outputs, np.concatenate(answers))
        return {"examples": examples}

    def do_memory(self) -> dict[str, int]:
        """Report the highest resident memory since the process began."""
        return {"peak_rss": peak_rss()}


def _mean(calls: Sequence[Callable[[], int]]) -> Callable[[], int]:
    return lambda: sum(call() for call in calls) // len(calls)


def read_batches(file: str) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the batches of an archive in order."""
    with np.load(file) as archive:
        keys = [name.rpartition(".") for name in archive.files]
        for batch in sorted({int(number) for _, _, number in keys}):
            yield {name: archive[f"{name}.{batch}"] for name, _, number in keys if int(number) == batch}


def peak_rss() -> int:
    """Return the process's peak resident memory in bytes.

    Linux's VmHWM starts anew with the program; `ru_maxrss`, asked elsewhere, would be at least the parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
