"""How much memory unlabelled text takes, from a thousand rows to a million.

`python -m bench.memory` reads made-up sentences of a text file by `load_unlabelled`, tokenizes them into the token
store and reads every row of it in random order, each size in a process of its own. It prints one Markdown table and
writes it to `bench/results/memory.md`. Growth is over what the process held before, libraries included. Private memory
is what the system cannot take back; pages of mapped files count as resident too while there is room for them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROWS = (1_000, 10_000, 100_000, 1_000_000)
STEPS = ("read", "tokenize", "a pass over the rows")
RESULT = Path(__file__).parent / "results" / "memory.md"
WORDS = [
    f"{first}{second}" for first in "bcdfghklmnprst" for second in ("ana", "ero", "ilu", "ox", "umi", "ys")
]
SECONDS = 0.005  # between two looks at the memory


def main() -> None:
    """Measure every size and print the table; with an argument, measure that size and print it as JSON."""
    if sys.argv[1:]:
        sys.stdout.write(json.dumps(measure(int(sys.argv[1]))))
        return
    lines = [
        "# Memory of unlabelled text",
        "",
        "`python -m bench.memory`: growth of private memory, MB at the peak (resident memory, mapped files included).",
        "",
        f"| rows | text, MB | {' | '.join(STEPS)} | seconds |",
        f"| ---: | ---: |{' ---: |' * len(STEPS)} ---: |",
    ]
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as cache:
            output = subprocess.run(
                [sys.executable, "-m", "bench.memory", str(rows)],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"COMPRESS_CACHE": cache, "OMP_NUM_THREADS": "1"},
            ).stdout
        cell = json.loads(output.splitlines()[-1])
        grown = [f"{step['private']:.0f} ({step['resident']:.0f})" for step in cell["steps"]]
        lines.append(f"| {rows:,} | {cell['text']:.1f} | {' | '.join(grown)} | {cell['seconds']:.1f} |")
    from compress.hardware import fingerprint

    machine = fingerprint()
    lines += ["", f"On {machine['processor']}, {machine['cores']} cores, Python {machine['python']}."]
    text = "\n".join(lines) + "\n"
    RESULT.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def measure(rows: int) -> dict[str, Any]:
    """Return the growth of memory in each step, MB, and the seconds of all."""
    folder = Path(os.environ["COMPRESS_CACHE"])
    _write_sentences(folder / "few.txt", 100)
    _write_sentences(folder / "texts.txt", rows)
    _all_steps(folder / "few.txt", "few", lambda step: step())  # what libraries allocate on first use
    grown: list[dict[str, float]] = []

    def watch(step: Callable[[], Any]) -> Any:
        with _watched(grown):
            return step()

    start = time.perf_counter()
    _all_steps(folder / "texts.txt", "all", watch)
    seconds = time.perf_counter() - start
    return {"steps": grown, "seconds": seconds, "text": (folder / "texts.txt").stat().st_size / 1e6}


def _all_steps(file: Path, key: str, watch: Callable[[Callable[[], Any]], Any]) -> None:
    from compress.data.token_store import build_tokens
    from compress.data.unlabelled import load_unlabelled

    numbers = {word: number for number, word in enumerate(WORDS)}

    def encode(chunk: Any) -> list[dict[str, list[int]]]:
        split = [[numbers[word] for word in text.split()] for text in chunk["text"]]
        return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in split]

    texts = watch(lambda: load_unlabelled(str(file), pair=False))
    store = watch(lambda: build_tokens(texts.data, encode, key))
    watch(lambda: sum(len(store[random.randrange(len(store))]["input_ids"]) for _ in range(len(store))))


def _write_sentences(file: Path, rows: int) -> None:
    generator = random.Random(0)
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            stream.write(" ".join(generator.choices(WORDS, k=generator.randint(12, 24))) + "\n")


@contextmanager
def _watched(grown: list[dict[str, float]]) -> Iterator[None]:
    """Append the growth at the peak of what runs inside."""
    before = peak = _memory()
    done = threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(SECONDS):
            now = _memory()
            peak = {kind: max(peak[kind], now[kind]) for kind in peak}

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        grown.append({kind: peak[kind] - before[kind] for kind in peak})


def _memory() -> dict[str, float]:
    """Return this process's private and resident memory, MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
    return {"private": found["RssAnon"], "resident": sum(found.values())}


if __name__ == "__main__":
    main()
