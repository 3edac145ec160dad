"""The bench itself: check, prepare, time, score, report."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.benchmark import targets as files
from compress.benchmark.accuracy import check_test
from compress.benchmark.anatomy import anatomy
from compress.benchmark.config import BenchConfig
from compress.benchmark.latency import Cell, Measurements, measure, write_inputs, write_texts
from compress.benchmark.load import measure_load
from compress.benchmark.pool import Worker
from compress.benchmark.quality import slice_columns
from compress.benchmark.report import Accuracy, Latency, Ratio, Report, Row
from compress.benchmark.scoring import score_subjects
from compress.benchmark.shapes import TEXTS, Shape, shapes_of
from compress.benchmark.statistics import MIN_ROUNDS, Floats, paired_ratio
from compress.benchmark.subjects import Subject, check, load_notes, possible, prepare
from compress.benchmark.targets import Target
from compress.benchmark.writing import write_report
from compress.display import progress
from compress.errors import InputError
from compress.folders import check_output
from compress.hardware import fingerprint
from compress.manifest import hash_json

if TYPE_CHECKING:
    import datasets

_WIDE = 0.1  # of a speed-up's interval, beyond which a bench says that it was noisy


def run_bench(
    targets: Sequence[Target], config: BenchConfig, test: datasets.Dataset | None, out: Path, seed: int
) -> Report:
    """Time and score every target in every runtime and write `report.json`, `.md` and `.html` into `out`.

    Each target × runtime has a process of its own with its threads pinned; all stay loaded and one runs at a
    time, so memory must hold them all. A target without an ONNX file gets one made for the bench.

    Args:
        targets: model folders; the first, in the first runtime, is what the others are compared with.
        config: runtimes, shapes, threads and effort.
        test: columns "text" (and "text_pair") and "label": class ids in the first target's label order, or
            numbers. None times only.
        out: folder of the report; missing, empty or of an earlier bench.
        seed: of inputs, order and resampling.

    Returns:
        What `report.json` holds.

    Raises:
        InputError: targets, test set, runtime or device cannot be used as asked.
        FolderError: a model folder is damaged, or `out` cannot be written.
        CompressError: a worker died.
    """
    check_output(out)
    check(targets, config)
    if test is not None:
        check_test(test)
    elif config.texts or config.noise:
        raise InputError(
            "texts of the test set are to be read, but there is none",
            place="bench.texts" if config.texts else "bench.noise",
            remedy="Give data with test rows, or leave this out.",
        )
    machine = fingerprint()
    with tempfile.TemporaryDirectory(prefix="compress-bench-") as temporary, ExitStack() as stack:
        work, notes = Path(temporary), load_notes(config)
        subjects = prepare(targets, config, work, notes)
        notes += [
            f"{subject.entry} has no metric: it answers a whole vocabulary for every token"
            for subject in subjects
            if subject.task is not None and subject.task.kind == "language"
        ]
        shapes = [possible(subject, config, notes) for subject in subjects]
        vocabulary = min(subject.config.vocab_size for subject in subjects)
        padding = {subject.config.pad_token_id for subject in subjects} - {None}
        drawn = write_inputs(shapes_of(config), vocabulary, padding, seed, work)
        inputs = {
            (i, shape): drawn[shape] for i, able in enumerate(shapes) for shape in able if shape in drawn
        }
        if test is not None and config.texts:
            inputs |= _texts(subjects, shapes, test, config.texts, seed, work)
        workers, load_s = _start(subjects, config, work, stack)
        measured = measure(workers, shapes, inputs, config, seed)
        times, first = measured.times, measured.first
        memory = [worker.ask({"do": "memory"})["peak_rss"] / 1e6 for worker in workers]
        notes += _timing_notes(times, config)
        load = measure_load(workers, inputs, config, seed) if config.callers else []
        accuracy = {} if test is None else score_subjects(subjects, workers, test, config, seed, work, notes)
        cold = [load_s[i] + first[i] if i in first else None for i in range(len(subjects))]
        rows = _rows(subjects, config, measured, load_s, cold, memory, accuracy)
        notes += _noise_notes(rows, times)
        report = Report(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=seed,
            config=config,
            machine=machine,
            rows=tuple(rows),
            accuracy=tuple(accuracy.values()),
            notes=tuple(notes),
            load=tuple(load),
            models=tuple(anatomy(dict.fromkeys(targets))),
            test=None
            if test is None
            else hash_json(
                [list(test[n]) for n in sorted({*test.column_names} - {*slice_columns(test).values()})]
            ),
        )
    write_report(report, out)
    return report


def _start(
    subjects: Sequence[Subject], config: BenchConfig, work: Path, stack: ExitStack
) -> tuple[list[Worker], list[float]]:
    """Start one worker after the other; return them and the seconds each took to load."""
    workers, seconds = [], []
    with progress("load models", len(subjects)) as advance:
        for number, subject in enumerate(subjects):
            for path in subject.shipped:  # bring it into the page cache, so that every load starts alike
                with path.open("rb") as file:
                    while file.read(1 << 24):
                        pass
            log = work / f"worker-{number}.log"
            worker = stack.enter_context(Worker(subject.entry, subject.path, config, log))
            seconds.append(worker.receive()["load_s"])
            workers.append(worker)
            advance(1)
    return workers, seconds


def _texts(
    subjects: Sequence[Subject],
    shapes: Sequence[Sequence[Shape]],
    test: datasets.Dataset,
    count: int,
    seed: int,
    work: Path,
) -> dict[Cell, Path]:
    """Write the same texts of the test set, drawn at random, for each model that is timed on them."""
    from transformers import AutoTokenizer

    rows = np.random.default_rng(seed).choice(len(test), min(count, len(test)), replace=False)
    texts = test.select(np.sort(rows))
    made: dict[Target, Path] = {}
    for subject, able in zip(subjects, shapes, strict=True):
        target = subject.entry.target
        if TEXTS in able and subject.task is not None and target not in made:
            folder = work / f"texts-{len(made)}"
            folder.mkdir()
            tokenizer = AutoTokenizer.from_pretrained(target.folder, local_files_only=True)
            made[target] = write_texts(texts, tokenizer, subject.task, folder)
    return {
        (i, TEXTS): made[subject.entry.target]
        for i, (subject, able) in enumerate(zip(subjects, shapes, strict=True))
        if TEXTS in able
    }


def _timing_notes(times: Mapping[Cell, Floats], config: BenchConfig) -> list[str]:
    notes = []
    rounds = min((len(rows) for rows in times.values()), default=config.rounds)
    if rounds < config.rounds:
        notes.append(f"{rounds} rounds instead of {config.rounds}, to stay near {config.seconds:g} s")
    if rounds < MIN_ROUNDS:
        notes.append(f"fewer than {MIN_ROUNDS} rounds: speedups have no interval")
    fewest = min((rows.size for rows in times.values()), default=100)
    if fewest < 100:
        notes.append(f"some rows have {fewest} timed runs: their p99 is close to the slowest run")
    return notes


def _noise_notes(rows: Sequence[Row], times: Mapping[Cell, Floats]) -> list[str]:
    """Say how many rounds would bring every speed-up's interval within a tenth; its width shrinks by their root."""
    beyond = [
        max(ratio.ci95[1] / ratio.value, ratio.value / ratio.ci95[0]) - 1
        for ratio in (row.speedup_vs_first for row in rows)
        if ratio is not None and ratio.ci95 is not None
    ]
    widest = max(beyond, default=0.0)
    if widest <= _WIDE:
        return []
    rounds = min(len(runs) for runs in times.values())
    needed = math.ceil(rounds * (widest / _WIDE) ** 2)
    return [
        f"noisy: the widest interval of a speedup reaches {widest:.0%} beyond it; about {needed:,} rounds instead of "
        f"{rounds} would bring that to {_WIDE:.0%}"
    ]


def _rows(
    subjects: Sequence[Subject],
    config: BenchConfig,
    measured: Measurements,
    load_s: Sequence[float],
    first_s: Sequence[float | None],
    memory: Sequence[float],
    accuracy: Mapping[int, Accuracy],
) -> list[Row]:
    sizes = [sum(path.stat().st_size for path in subject.shipped) / 1e6 for subject in subjects]
    rows = []
    times = measured.times
    for (index, shape), runs in times.items():
        entry = subjects[index].entry
        p50, p95, p99 = (float(value) for value in np.percentile(runs, [50, 95, 99]))
        answers = accuracy.get(index)
        rows.append(
            Row(
                name=entry.target.name,
                runtime=entry.runtime,
                device=config.device,
                threads=config.threads,
                batch_size=shape.batch_size,
                sequence_length=shape.sequence_length,
                latency_ms=Latency(p50=p50, p95=p95, p99=p99),
                throughput=1000 * shape.batch_size / p50,
                energy_mj=measured.millijoules.get((index, shape)),
                load_s=load_s[index],
                first_s=first_s[index],
                peak_rss_mb=memory[index],
                size_mb=sizes[index],
                parameters=files.count_parameters(entry.target.folder),
                metric=answers.metric if answers else None,
                agreement_with_first=answers.agreement_with_first if answers else None,
                speedup_vs_first=_speedup(times, index, shape),
                smaller_vs_first=sizes[0] / sizes[index],
            )
        )
    return rows


def _speedup(times: Mapping[Cell, Floats], index: int, shape: Shape) -> Ratio | None:
    if (0, shape) not in times:
        return None
    if index == 0:
        return Ratio(value=1, ci95=(1, 1))
    value, interval = paired_ratio(times[0, shape], times[index, shape])
    return Ratio(value=value, ci95=interval)
