"""The objectives inside the models, built for a teacher and a student and begun from a few examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from compress.distillation.objective import Part, compared
from compress.distillation.objectives.base import Inside
from compress.distillation.readers import TEACHER_INPUTS
from compress.distillation.signals import Signal, answering, layer_list, require_usual
from compress.distillation.teachers import Teachers
from compress.distillation.transfer import TransferPart
from compress.tasks.inputs import pad
from compress.training.examples import Collator, Examples

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.training.trainer import LiveTeacher

_FIRST = 64  # examples that the projections begin from


def signals_wanted(inside: Sequence[Inside], teachers: Teachers, student: Artifact) -> set[Signal]:
    """Return the first teacher's signals that are to be matched.

    Raises:
        InputError: it is no model, or a layer is out of range.
    """
    return {pair.teacher for each in inside for pair in each.pairs(*_depths(teachers, student))}


def require_comparable(
    inside: Sequence[Inside], teachers: Teachers, student: Artifact, part: TransferPart
) -> None:
    """Try the objectives on one text, before a teacher reads them all.

    Arguments are those of `build_parts`; `part` holds the text.

    Raises:
        InputError: a model shows no such signal, or two signals cannot be compared.
    """
    if not inside:
        return
    pairs = [each.pairs(*_depths(teachers, student)) for each in inside]
    one = part.data.select([0])

    def shapes(artifact: Artifact, signals: set[Signal]) -> dict[Signal, tuple[int, ...]]:
        batch = pad(artifact.task.encode(one, artifact.tokenizer).inputs, artifact.tokenizer)
        with answering(artifact, signals, bf16=False) as ask:
            shown = ask(batch)
        for signal, value in shown.items():
            require_usual(artifact.model, signal, value, batch["attention_mask"])
        return {signal: tuple(value.shape) for signal, value in shown.items()}

    theirs = shapes(teachers.first.artifact, {pair.teacher for some in pairs for pair in some})
    ours = shapes(student, {pair.student for some in pairs for pair in some})
    for options, some in zip(inside, pairs, strict=True):
        options.build([theirs[pair.teacher] for pair in some], [ours[pair.student] for pair in some])


def build_parts(
    inside: Sequence[Inside],
    teachers: Teachers,
    student: Artifact,
    examples: Examples,
    live: LiveTeacher | None,
    seed: int,
) -> list[Part]:
    """Build the objectives, their projections begun from a few examples.

    Args:
        inside: what is to be matched.
        teachers: the first one is.
        student: as it is before the training.
        examples: with the teacher's columns.
        live: where the teachers answer during the training.
        seed: of the choice of the examples.

    Raises:
        InputError: signals cannot be compared.
    """
    if not inside:
        return []
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(examples), generator=generator)[:_FIRST].tolist()
    collate = Collator(student.tokenizer, student.task.labels_per_token, examples.targets)
    batch = collate([examples[index] for index in chosen])
    targets = batch.pop("targets")
    del batch["labels"]
    if live is not None:
        targets |= live(targets.pop(TEACHER_INPUTS))
    device = student.model.device
    targets = {name: value.to(device) for name, value in targets.items()}
    pairs = [each.pairs(*_depths(teachers, student)) for each in inside]
    with answering(student, {pair.student for some in pairs for pair in some}, bf16=False) as ask:
        shown = ask(batch)
    built = []
    for options, some in zip(inside, pairs, strict=True):
        theirs = [tuple(targets[str(pair.teacher)].shape) for pair in some]
        ours = [tuple(shown[pair.student].shape) for pair in some]
        part = Part(options, some, options.build(theirs, ours).to(device))
        part.loss.fit(*compared(part, targets, shown))
        built.append(part)
    return built


def _depths(teachers: Teachers, student: Artifact) -> tuple[int, int]:
    return len(layer_list(teachers.first.artifact.model)), len(layer_list(student.model))
