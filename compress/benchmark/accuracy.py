"""Accuracy of the files themselves: the controller asks and scores, the workers answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.benchmark import statistics
from compress.benchmark.config import BenchConfig, Noise
from compress.benchmark.evidence import Evidence, unpacked
from compress.benchmark.pool import Worker
from compress.benchmark.quality import Readable, quality
from compress.benchmark.report import Accuracy, Metric, Quality, Robustness
from compress.benchmark.statistics import Floats
from compress.benchmark.targets import Entry
from compress.display import progress
from compress.errors import InputError
from compress.hardware import usable_cores
from compress.tasks import Task
from compress.tasks.embedding import Embedding, cosines_of
from compress.tasks.inputs import batches
from compress.tasks.kind import Answers, Counted, Encoded, Kind
from compress.tasks.labels import match_labels
from compress.tasks.ragged import Ragged, offsets_of
from compress.tasks.sequence import Classification

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

_BATCHES_A_FILE = 25


@dataclass(frozen=True)
class Questions:
    """A tokenized test set on disk.

    Attributes:
        files: worker inputs.
        order: the inputs' indices in the order of the files' rows.
        encoded: what the files hold, and what answers are held against.
        rules: of the model's task.
    """

    files: list[Path]
    order: list[int]
    encoded: Encoded
    rules: Kind


def check_test(test: datasets.Dataset) -> None:
    """Refuse a test set without rows or without the columns "text" and "label".

    Raises:
        InputError: with what is missing.
    """
    missing = [name for name in ("text", "label") if name not in test.column_names]
    if missing:
        raise InputError(
            f"the test set has no column {missing[0]!r}",
            place="bench",
            remedy='It needs "text", "label" and, for pairs, "text_pair", as load_data gives them.',
        )
    if len(test) == 0:
        raise InputError(
            "the test set is empty", place="bench", remedy="Give data with test rows, or none to time only."
        )


def check_tasks(entries: Sequence[Entry], tasks: Sequence[Task], test: datasets.Dataset) -> None:
    """Refuse models that answer another question than the first, and a test set of another task.

    Raises:
        InputError: naming the model, or the column.
    """
    first = tasks[0]
    for entry, task in zip(entries, tasks, strict=True):
        if task.kind != first.kind or None not in (task.pair, first.pair) and task.pair != first.pair:
            raise InputError(
                f"it answers {_question(task)}, the first model {_question(first)}",
                place=f"bench: {entry}",
                remedy="Bench models of one task, or leave the data out to time only.",
            )
        if first.labels:
            match_labels(task.labels, first.labels, f"bench: {entry}")
    if first.pair and "text_pair" not in test.column_names:
        raise InputError(
            'the models read text pairs, the test set has no column "text_pair"',
            place="bench",
            remedy="Give the data that the models were trained for.",
        )
    classes = first.kind == "classification"
    wrong = set(test["label"]) - set(range(len(first.labels))) if classes else set()
    if wrong:
        raise InputError(
            f"the test set has the label {sorted(wrong)[0]!r}, the models answer {len(first.labels)} classes",
            place="bench",
            remedy="Labels are class ids from 0, in the order of the first model's labels.",
        )


def _question(task: Task) -> str:
    return f"{task.kind} of {'text pairs' if task.pair else 'single texts'}"


def readable(test: datasets.Dataset) -> list[str]:
    """Return the inputs of a test set for people to read: both texts of a pair."""
    columns = [test[name] for name in ("text", "text_pair") if name in test.column_names]
    return [" / ".join(row) for row in zip(*columns, strict=True)]


def write_questions(
    test: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task, batch_size: int, folder: Path
) -> Questions:
    """Tokenize a test set, longest examples first, batches padded to their longest, into `folder`."""
    files: list[Path] = []
    order: list[int] = []
    arrays: dict[str, NDArray[Any]] = {}
    encoded = task.encode(test, tokenizer)
    for number, (indices, batch) in enumerate(batches(encoded.inputs, tokenizer, batch_size), start=1):
        arrays |= {f"{name}.{number}": value.numpy().astype(np.int32) for name, value in batch.items()}
        order += indices
        if number % _BATCHES_A_FILE == 0 or len(order) == len(encoded.inputs):
            files.append(folder / f"{len(files)}.npz")
            np.savez(files[-1], **arrays)  # type: ignore[arg-type]
            arrays = {}
    return Questions(files, order, encoded, task.rules)


def collect_answers(
    workers: Sequence[Worker], questions: Sequence[Questions], config: BenchConfig, folder: Path
) -> list[Answers]:
    """Have each worker answer its questions and return the answers in the data's order.

    Nothing is timed here, so as many workers run at once as the cores allow with their threads pinned.
    """
    at_once = max(1, usable_cores() // config.threads) if config.device == "cpu" else 1
    pending = list(range(len(workers)))
    running: dict[Any, tuple[int, int]] = {}  # a worker's stdout: who it is, which file it is at

    def put(index: int, file: int) -> None:
        request = {"do": "predict", "inputs": str(questions[index].files[file])}
        workers[index].send(request | {"outputs": str(_answer(folder, index, file))})
        running[workers[index].stdout] = index, file

    with progress("accuracy", sum(len(asked.order) for asked in questions)) as advance:
        while pending or running:
            while pending and len(running) < at_once:
                put(pending.pop(0), 0)
            for stream in wait(list(running)):
                index, file = running.pop(stream)
                advance(workers[index].receive()["examples"])
                if file + 1 < len(questions[index].files):
                    put(index, file + 1)
    return [_gather(folder, index, asked) for index, asked in enumerate(questions)]


def _answer(folder: Path, index: int, file: int) -> Path:
    return folder / f"answers-{index}-{file}.npy"


def _gather(folder: Path, index: int, asked: Questions) -> Answers:
    rows = np.concatenate([np.load(_answer(folder, index, file)) for file in range(len(asked.files))])
    if not asked.rules.outputs_per_token:
        logits = np.empty(rows.shape, np.float64)
        logits[asked.order] = rows
        return asked.rules.from_outputs(logits)
    lengths = [len(row["input_ids"]) for row in asked.encoded.inputs]
    answered = Ragged(rows, offsets_of([lengths[i] for i in asked.order]))
    place = {example: number for number, example in enumerate(asked.order)}
    return asked.rules.from_outputs(Ragged.of([answered[place[i]] for i in range(len(lengths))]))


def score(
    entries: Sequence[Entry],
    answers: Sequence[Answers],
    tasks: Sequence[Task],
    targets: Sequence[Any],
    texts: Sequence[str],
    seed: int,
    slices: Mapping[str, Sequence[str]] | None = None,
) -> list[Accuracy]:
    """Score every entry and compare it, example by example, with the first.

    Args:
        entries: who answered.
        answers: of each.
        tasks: of each; class columns are matched to the first task's by label name.
        targets: the truth as each model's task has it, with class ids in the first task's order.
        texts: of the examples, for people to read.
        seed: of the bootstrap, alike for all, which pairs its samples.
        slices: columns that part the examples, by name.
    """
    task = tasks[0]
    aligned = [_align(*each, task) for each in zip(entries, answers, tasks, strict=True)]
    first = aligned[0], targets[0]
    reference = _evidence(task.rules, first)
    test = Readable(texts, task.labels, slices or {})
    results: list[Accuracy] = []
    for entry, values, truth in zip(entries, aligned, targets, strict=True):
        metrics = task.metrics(values, truth)
        evidence = _evidence(task.rules, (values, truth)) if results else reference
        logits = (np.asarray(values), np.asarray(aligned[0])) if evidence.form == "classes" else None
        results.append(
            Accuracy(
                name=entry.target.name,
                runtime=entry.runtime,
                examples=len(texts),
                metric=Metric(
                    name=task.main_metric, value=metrics[task.main_metric], ci95=evidence.interval(seed)
                ),
                metrics=metrics,
                agreement_with_first=_agreement(task.rules, (values, truth), first),
                difference_with_first=evidence.difference(reference, seed) if results else None,
                answers=evidence.packed(),
                quality=quality(test, task.main_metric, evidence, reference, logits, seed),
            )
        )
    return results


def robustness(
    clean: Sequence[Accuracy],
    noise: Noise,
    entries: Sequence[Entry],
    answers: Sequence[Answers],
    tasks: Sequence[Task],
    targets: Sequence[Any],
    seed: int,
) -> list[Accuracy]:
    """Add to what was scored how well the same examples are answered with noise in their texts.

    Args:
        clean: what `score` returned.
        noise: which.
        entries: who answered.
        answers: of each, to the noisy texts.
        tasks: of each.
        targets: as for `score`.
        seed: of the bootstrap.
    """
    task, found = tasks[0], []
    for scored, entry, values, own, truth in zip(clean, entries, answers, tasks, targets, strict=True):
        evidence = _evidence(task.rules, (_align(entry, values, own, task), truth))
        assert scored.answers is not None
        metric = Metric(name=task.main_metric, value=evidence.metric(), ci95=evidence.interval(seed))
        difference = evidence.difference(unpacked(scored.answers), seed)
        one = Robustness(noise=noise, metric=metric, difference_with_clean=difference)
        quality = scored.quality or Quality()
        quality = quality.model_copy(update={"robustness": (*quality.robustness, one)})
        found.append(scored.model_copy(update={"quality": quality}))
    return found


Answered = tuple[Answers, Any]  # answers and targets


def _align(entry: Entry, answers: Answers, own: Task, task: Task) -> Answers:
    """Bring class columns into the first task's order."""
    if not task.labels:
        return answers
    order = match_labels(own.labels, task.labels, f"bench: {entry}")
    return answers.columns(order) if isinstance(answers, Ragged) else answers[:, order]


def _evidence(rules: Kind, own: Answered) -> Evidence:
    """Return what decides the main metric, example by example."""
    if isinstance(rules, Counted):
        return Evidence("counts", rules.ratio(*own))
    truth = np.asarray(own[1])
    if isinstance(rules, Classification):
        return Evidence("classes", np.stack([np.asarray(own[0]).argmax(-1), truth], -1).astype(np.float64))
    return Evidence("numbers", np.stack([_numbers(rules, own[0]), truth], -1).astype(np.float64))


def _agreement(rules: Kind, own: Answered, first: Answered) -> float:
    """Return how far two models answer alike: percent of equal decisions, or Pearson's correlation of numbers."""
    if isinstance(rules, Counted):
        return 100 * float((rules.decisions(*own) == rules.decisions(*first)).mean())
    if isinstance(rules, Classification):
        alike = np.asarray(own[0]).argmax(-1) == np.asarray(first[0]).argmax(-1)
        return 100 * float(alike.mean())
    return float(statistics.pearson(_numbers(rules, own[0]), _numbers(rules, first[0])))


def _numbers(rules: Kind, answers: Answers) -> Floats:
    """Return (examples,) what is correlated with the targets."""
    return cosines_of(answers) if isinstance(rules, Embedding) else np.asarray(answers).reshape(-1)
