"""From teachers, a student and data to a trained student."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from compress.distillation.inside import build_parts, require_comparable, signals_wanted
from compress.distillation.objective import DistillationObjective
from compress.distillation.teachers import Teachers
from compress.distillation.transfer import TransferPart, with_unlabelled
from compress.processes import first_goes_first
from compress.training.objective import label_objective
from compress.training.run import train
from compress.training.tokenized import training_examples

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.data import TextData
    from compress.distillation.matching import Matching
    from compress.passes.base import Context
    from compress.training.config import TrainingPass


def distil(
    student: Artifact,
    teachers: Teachers,
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
        teachers: one or several.
        data: its train and validation splits are read, labels in the student's order.
        more: text without labels.
        matching: what is to be matched.
        options: of the training.
        context: of the pass.
        cached: whether the teachers answer once, before the training, or at every step, as of masked words in any case.

    Raises:
        InputError: a teacher's answers are broken or missing, labels differ, or signals cannot be compared.
    """
    task = student.task
    student.model.to(context.device)  # type: ignore[arg-type]
    parts = [TransferPart(data.train, f"{data.fingerprint}/train"), *more]
    labelled = training_examples(data, student.tokenizer, task)
    hard = label_objective(task, options, labelled.labels)
    examples = with_unlabelled(labelled, more, student.tokenizer, task)
    dev = task.encode(data.validation, student.tokenizer)
    if matching.labels_alone:
        train(student, examples, dev, hard, options, context, title="distil")
        return
    inside = signals_wanted(matching.inside, teachers, student)
    require_comparable(matching.inside, teachers, student, parts[0])
    live = None
    with ExitStack() as stack:
        with first_goes_first(context.device):
            if cached and not task.rules.condenses:  # a vocabulary's logits for every token would fill a disk
                examples.targets = teachers.columns(parts, student, inside)
            else:
                examples.targets, live = stack.enter_context(teachers.live(parts, student, inside))
        objective = DistillationObjective(
            task,
            hard,
            matching.logits,
            matching.kd_weight,
            matching.temperature,
            build_parts(matching.inside, teachers, student, examples, live, context.seed),
        )
        train(student, examples, dev, objective, options, context, live, title="distil")
