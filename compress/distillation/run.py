"""From teachers, a student and data to a trained student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.distillation.alignment import NOWHERE, align_tokens, to_front
from compress.distillation.answers import Answers
from compress.distillation.ensemble import Ensemble, Order
from compress.distillation.objective import ANSWER, POSITIONS, DistillationObjective, Part, compared
from compress.distillation.objectives.base import Inside
from compress.distillation.schedule import Schedule
from compress.distillation.signals import Signal, answering, layer_list
from compress.distillation.teacher import Teacher
from compress.distillation.transfer import TransferPart, examples_of, joined, tokenized
from compress.errors import InputError
from compress.processes import first_goes_first
from compress.tasks.inputs import pad
from compress.tasks.labels import match_labels
from compress.training.examples import Collator, Examples
from compress.training.objective import label_objective
from compress.training.trainer import LiveTeacher, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compress.artifact import Artifact
    from compress.data import TextData
    from compress.passes.base import Context
    from compress.training.config import TrainingPass

TEACHER_INPUTS = "teacher_inputs"
_FIRST = 64  # examples that the projections begin from


@dataclass(frozen=True)
class Matching:
    """What a student is to match, and how much.

    Attributes:
        logits: by divergence or by squared error.
        kd_weight: the teacher's share of the loss on the answer; the labels have the rest.
        temperature: softens both distributions.
        inside: objectives inside the models; they read the first teacher.
    """

    logits: Literal["kl", "mse"] = "kl"
    kd_weight: Schedule = 0.5
    temperature: Schedule = 2.0
    inside: tuple[Inside, ...] = ()


def distil(
    student: Artifact,
    teachers: Sequence[Teacher | Answers],
    weights: Sequence[float],
    data: TextData,
    more: Sequence[TransferPart],
    matching: Matching,
    options: TrainingPass,
    context: Context,
    cached: bool = True,
) -> None:
    """Train `student` in place.

    Args:
        student: with a head for the task.
        teachers: one or several; what is matched inside is the first one's.
        weights: of the teachers' logits; they add up to 1.
        data: its train and validation splits are read, labels in the student's order.
        more: text without labels.
        matching: what is to be matched.
        options: of the training.
        context: of the pass.
        cached: whether the teachers answer once, before the training, or at every step.

    Raises:
        InputError: a teacher's answers are broken or missing, labels differ, or signals cannot be compared.
    """
    parts = [TransferPart(data.train, f"{data.fingerprint}/train"), *more]
    examples = examples_of(parts, student.tokenizer, student.task)
    with ExitStack() as stack:
        inside = _signals_wanted(matching.inside, teachers[0], student)
        live = None
        if cached:
            with first_goes_first(context.device):
                examples.targets |= _cached_columns(teachers, weights, parts, student, inside)
        else:
            live = _live(stack, teachers, weights, parts, student, inside, examples)
        if student.task.per_token or any(signal.rows for signal in inside):
            assert isinstance(teachers[0], Teacher)
            examples.targets[POSITIONS] = _positions(parts, teachers[0].artifact, student)
        objective = DistillationObjective(
            student.task,
            label_objective(student.task, options, examples.labels),
            matching.logits,
            matching.kd_weight,
            matching.temperature,
            _parts(matching.inside, teachers[0], student, examples, live, context.seed),
        )
        dev = student.task.encode(data.validation, student.tokenizer)
        train(student, examples, dev, objective, options, context, live, title="distil")


def _signals_wanted(inside: Sequence[Inside], teacher: Teacher | Answers, student: Artifact) -> set[Signal]:
    if not inside:
        return set()
    return {pair.teacher for each in inside for pair in each.pairs(*_depths(teacher, student))}


def _depths(teacher: Teacher | Answers, student: Artifact) -> tuple[int, int]:
    if isinstance(teacher, Answers):
        raise InputError(
            "the first teacher is no model, so nothing inside it can be matched",
            place="match",
            remedy="Put a model first among the teachers, or leave match out.",
        )
    return len(layer_list(teacher.artifact.model)), len(layer_list(student.model))


def _orders(teachers: Sequence[Teacher | Answers], student: Artifact) -> list[Order]:
    """Return, for each teacher, where it keeps each of the student's labels."""
    labels = student.task.labels
    if not labels:
        return [slice(None)] * len(teachers)
    return [
        match_labels(each.artifact.task.labels, labels, "teacher")
        if isinstance(each, Teacher)
        else list(range(len(labels)))
        for each in teachers
    ]


def _cached_columns(
    teachers: Sequence[Teacher | Answers],
    weights: Sequence[float],
    parts: Sequence[TransferPart],
    student: Artifact,
    inside: set[Signal],
) -> dict[str, Any]:
    """Return the columns of teachers that answer beforehand."""
    logits: list[Any] = []
    columns: dict[str, Any] = {}
    for number, teacher in enumerate(teachers):
        if isinstance(teacher, Answers):
            logits.append(joined([teacher.of(part.data) for part in parts]))
            continue
        wanted = inside if number == 0 else set()
        found = [teacher.signals(part, wanted) for part in parts]
        logits.append(joined([each[teacher.answer] for each in found]))
        if number == 0:
            columns = {str(signal): joined([each[signal] for each in found]) for signal in inside}
    return columns | {ANSWER: Ensemble(logits, _orders(teachers, student), weights)}


@dataclass(frozen=True)
class _TeacherInputs:
    """What the teachers read, for those that answer during the training."""

    encoded: Sequence[Sequence[dict[str, list[int]]]]
    tokenizers: Sequence[PreTrainedTokenizerBase]

    def __getitem__(self, index: int) -> list[dict[str, list[int]]]:
        return [rows[index] for rows in self.encoded]

    def stack(self, examples: Sequence[list[dict[str, list[int]]]]) -> list[dict[str, Tensor]]:
        rows = zip(*examples, strict=True)
        return [pad(each, tokenizer) for each, tokenizer in zip(rows, self.tokenizers, strict=True)]


def _live(
    stack: ExitStack,
    teachers: Sequence[Teacher | Answers],
    weights: Sequence[float],
    parts: Sequence[TransferPart],
    student: Artifact,
    inside: set[Signal],
    examples: Examples,
) -> LiveTeacher:
    """Give the examples what the teachers read, and return what turns a batch of it into targets."""
    models = [teacher for teacher in teachers if isinstance(teacher, Teacher)]
    if len(models) < len(teachers):
        raise InputError(
            "a teacher that is no model cannot answer at every step", place="cache", remedy="Leave cache on."
        )
    encoded = [
        joined([tokenized(part, each.artifact.tokenizer, each.artifact.task) for part in parts])
        for each in models
    ]
    examples.targets[TEACHER_INPUTS] = _TeacherInputs(encoded, [each.artifact.tokenizer for each in models])
    asked = [
        stack.enter_context(
            answering(each.artifact, {each.answer} | (inside if number == 0 else set()), each.bf16)
        )
        for number, each in enumerate(models)
    ]
    orders = _orders(teachers, student)

    def answer(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        found = [
            {
                signal: to_front(value, batch["attention_mask"], signal.rows)
                for signal, value in ask(batch).items()
            }
            for ask, batch in zip(asked, batches, strict=True)
        ]
        said = [each.pop(model.answer) for each, model in zip(found, models, strict=True)]
        logits = [w * each[..., order] for w, each, order in zip(weights, said, orders, strict=True)]
        targets = {str(signal): value for signal, value in found[0].items()}
        return targets | {ANSWER: torch.stack(logits).sum(0)}

    return answer


@dataclass(frozen=True)
class _Positions:
    """Where each token of the student stands in the teacher's, padded as the student's tokens are."""

    rows: Sequence[NDArray[np.int32]]
    side: str

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.rows[index].astype(np.int64))

    def stack(self, examples: Sequence[Tensor]) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(examples), True, NOWHERE, self.side)


def _positions(parts: Sequence[TransferPart], teacher: Artifact, student: Artifact) -> _Positions:
    rows = [align_tokens(part, teacher, student) for part in parts]
    return _Positions([row for each in rows for row in each], student.tokenizer.padding_side)


def _parts(
    inside: Sequence[Inside],
    teacher: Teacher | Answers,
    student: Artifact,
    examples: Examples,
    live: LiveTeacher | None,
    seed: int,
) -> list[Part]:
    """Build the objectives inside, their projections begun from a few examples."""
    if not inside:
        return []
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(examples), generator=generator)[:_FIRST].tolist()
    batch = Collator(student.tokenizer, student.task.labels_per_token, examples.targets)(
        [examples[index] for index in chosen]
    )
    targets = batch.pop("targets")
    del batch["labels"]
    if live is not None:
        targets |= live(targets.pop(TEACHER_INPUTS))
    built = []
    depths = _depths(teacher, student)
    pairs = [each.pairs(*depths) for each in inside]
    with answering(student, {pair.student for some in pairs for pair in some}, bf16=False) as ask:
        shown = ask(batch)
    for options, some in zip(inside, pairs, strict=True):
        shapes = (
            [tuple(targets[str(pair.teacher)].shape) for pair in some],
            [tuple(shown[pair.student].shape) for pair in some],
        )
        part = Part(options, some, options.build(*shapes))
        part.loss.fit(*compared(part, targets, shown))
        built.append(part)
    return built
