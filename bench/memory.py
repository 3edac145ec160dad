"""How much memory unlabelled text takes on its way through a distillation, from a thousand rows to a million.

`python -m bench.memory` reads made-up sentences of a text file by `load_unlabelled`, tokenizes them into the token
store, reads every row of it in random order, has a tiny teacher answer all of them and show a layer, aligns its words
with a student's pieces of words, and trains the student for an epoch on both; then it reads the same sentences as a
labelled file, which `load_data` keeps in memory, and their tokens and labels. Each size is run in a process of its
own. It prints one Markdown table and writes it to `bench/results/memory.md`. Growth is over what the process held
before the step, libraries included. Private memory is what the system cannot take back; pages of mapped files count
as resident too while there is room for them.
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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.data import TextData

ROWS = (1_000, 10_000, 100_000, 1_000_000)
STEPS = (
    "read",
    "tokenize",
    "a pass over the rows",
    "answers, hidden states",
    "alignment",
    "an epoch",
    "a labelled file",
    "its tokens and labels",
)
RESULT = Path(__file__).parent / "results" / "memory.md"
WORDS = [
    f"{first}{second}" for first in "bcdfghklmnprst" for second in ("ana", "ero", "ilu", "ox", "umi", "ys")
]
SPECIAL = ["[PAD]", "[UNK]"]
SECONDS = 0.005  # between two looks at the memory


def main() -> None:
    """Measure every size and print the table; with an argument, measure that size and print it as JSON."""
    if sys.argv[1:]:
        sys.stdout.write(json.dumps(measure(int(sys.argv[1]))))
        return
    lines = [
        "# Memory of a distillation",
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
    from compress.data import DataConfig, load_data
    from compress.data.unlabelled import load_unlabelled
    from compress.distillation.alignment import align
    from compress.distillation.counterparts import SAME
    from compress.distillation.matching import Matching
    from compress.distillation.objectives.hidden import HiddenStates
    from compress.distillation.run import distil
    from compress.distillation.signals import Signal
    from compress.distillation.teacher import Teacher
    from compress.distillation.teachers import Teachers
    from compress.distillation.transfer import TransferPart, tokenized
    from compress.passes.base import Context
    from compress.passes.distill import Distill
    from compress.training.tokenized import training_examples

    texts = watch(lambda: load_unlabelled(str(file), pair=False))
    part = TransferPart(texts.data, texts.fingerprint)
    words, pieces = _models()
    store = watch(lambda: tokenized(part, words.tokenizer, words.task))
    watch(lambda: sum(len(store[random.randrange(len(store))]["input_ids"]) for _ in range(len(store))))
    teacher = Teacher(words, key, bf16=False)
    watch(lambda: teacher.signals(part, [Signal("hidden", 1)]))
    watch(lambda: align([part], words, pieces).positions(SAME))
    options = Distill.model_validate({"student": "teacher:1", "epochs": 1, "bf16": False})
    matching = Matching(inside=(HiddenStates(layers="last"),))
    context = Context(seed=0, workdir=file.parent / f"{key}.work")
    watch(lambda: distil(pieces, Teachers([teacher], [1.0]), _labelled(), [part], matching, options, context))
    source = DataConfig(source=str(_with_labels(file)))
    data = watch(lambda: load_data(source))
    watch(lambda: training_examples(data, pieces.tokenizer, pieces.task))


def _models() -> tuple[Artifact, Artifact]:
    """Return a teacher whose tokens are words and a student that knows every other word whole, the rest in pieces."""
    from tokenizers.models import WordLevel, WordPiece

    letters, endings = {word[0] for word in WORDS}, {f"##{word[1:]}" for word in WORDS}
    known = [*SPECIAL, *WORDS[::2], *sorted(letters), *sorted(endings)]
    ids = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    pieces = WordPiece({piece: place for place, piece in enumerate(known)}, unk_token="[UNK]")
    return _model(WordLevel(ids, unk_token="[UNK]"), layers=2), _model(pieces, layers=1)


def _model(algorithm: Any, layers: int) -> Artifact:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from compress.artifact import Artifact
    from compress.manifest import Manifest
    from compress.tasks import Task

    tokenizer = Tokenizer(algorithm)
    tokenizer.pre_tokenizer = Whitespace()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        num_hidden_layers=layers,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        pad_token_id=0,
    )
    return Artifact(
        BertForSequenceClassification(config).eval(),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"),
        Manifest(source="made up", task=Task(kind="classification", labels=("a", "b"))),
    )


def _labelled() -> TextData:
    import datasets

    from compress.data import TextData

    rows = {"text": WORDS[:32], "label": [place % 2 for place in range(32)]}
    split = datasets.Dataset.from_dict(rows)
    return TextData("made up", split, split, split, ("a", "b"), False, "made up", ())


def _write_sentences(file: Path, rows: int) -> None:
    generator = random.Random(0)
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            stream.write(" ".join(generator.choices(WORDS, k=generator.randint(12, 24))) + "\n")


def _with_labels(file: Path) -> Path:
    labelled = file.with_suffix(".csv")
    with file.open(encoding="utf-8") as lines, labelled.open("w", encoding="utf-8") as rows:
        rows.write("text,label\n")
        rows.writelines(f"{line.rstrip()},{'ab'[place % 2]}\n" for place, line in enumerate(lines))
    return labelled


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
