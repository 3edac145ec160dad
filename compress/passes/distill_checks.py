"""What a distillation's options are refused for before anything runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from compress.architectures import layer_count_of, set_layer_count
from compress.artifact import read_config, read_manifest
from compress.data.local import looks_like_path
from compress.distillation.answers import RATINGS, is_answers_file, ratings, read_answers
from compress.distillation.ensemble import order_of, require_same_words
from compress.distillation.student import MADE, chosen_layers, layers_wanted, new_config
from compress.errors import CompressError
from compress.passes.base import ModelPlan, step_number
from compress.passes.finetune import check_head, task_of
from compress.reload import is_quantized
from compress.sources import resolve_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from compress.passes.distill import Distill


def check(options: Distill, plan: ModelPlan) -> None:
    """Refuse what `Distill.check` says, and update the plan to the student that comes out."""
    named = options.student is not None and not options.student.startswith(MADE)
    if named:
        plan.quantized = False  # the model that comes in only answers; _check_student looks at the other
    options.check_trainable(plan)
    if (options.student is None) == (options.teacher is None):
        plan.refuse(
            "give either a student or a teacher",
            "The model that comes in is the other one: set `student: teacher:3`, or `teacher: step:1`.",
        )
        return
    if plan.task is None and (options.student is not None or plan.config is not None):
        if options.student is not None or plan.data is None:
            who = "teacher" if options.student is not None else "student"
            plan.refuse(f"the {who} has no trained head for the task", "Put a finetune pass before this one.")
            return
        plan.task = task_of(plan.data, options.max_length)
        check_head(plan)
    weights = options.teacher_weights
    if isinstance(weights, tuple) and (len(weights) != 1 + len(options.teachers) or min(weights) <= 0):
        plan.refuse(
            f"{len(weights)} teacher_weights for {1 + len(options.teachers)} teachers",
            "Give one number above 0 for each, the first teacher's first.",
        )
    if (
        options.logits == "mse"
        and plan.task is not None
        and plan.task.rules.compared in ("places", "cosines")
    ):
        plan.refuse(
            f"`logits: mse` is for classes, labels and numbers, the task is {plan.task.kind}",
            "Leave it out.",
        )
    if plan.data is not None and not plan.data.pair and any(each.pairs_only for each in options.augment):
        plan.refuse(
            "near-texts makes pairs, the task is over single texts",
            "Take another method of augmentation, or more text by `unlabelled`.",
        )
    if options.augment_anew and not options.augment:
        plan.refuse("augment_anew without augment", "Name the methods in augment, or leave it out.")
    if (options.unlabelled or options.augment) and options.matching.labels_alone:
        plan.refuse(
            "only the teacher can label this text, and kd_weight is 0 with nothing matched",
            "Raise kd_weight, match something inside the models, or leave unlabelled and augment out.",
        )
    for source in options.unlabelled:
        if not source.strip() or (looks_like_path(source) and not Path(source).expanduser().exists()):
            plan.refuse(
                f"unlabelled: there is no {source.strip() or 'source without a name'}",
                "Give a file, a folder or a data set.",
            )
    try:
        if options.student is not None:
            _check_student(options, plan)
        for name in filter(None, (options.teacher, *options.teachers)):
            _check_teacher(options, plan, name)
        options.check_layers(plan)
    except CompressError as error:
        plan.errors.append(f"{plan.place}: {error}")


def _check_teacher(options: Distill, plan: ModelPlan, name: str) -> None:
    if name == RATINGS or is_answers_file(name):
        if options.match and name == options.teacher:
            plan.refuse(
                f"nothing inside {name} can be matched",
                "Put a model first among the teachers, or leave match out.",
            )
        if not options.cache:
            plan.refuse(f"{name} cannot answer at every step", "Leave cache on.")
        if options.teacher_weights == "dev":
            plan.refuse(
                f"{name} cannot be scored on the dev split", "Give teacher_weights in numbers, or equal."
            )
        if name != RATINGS and not Path(name).is_file():
            plan.refuse(f"there is no file {name}", "Give a file of the teacher's answers, or a model.")
        elif plan.task is not None and not plan.task.one_answer:
            plan.refuse(f"{name} holds an answer for a text, the task is {plan.task.kind}", "Give a model.")
        elif plan.task is not None and plan.data is not None:
            given = (
                ratings(plan.data.name, plan.task) if name == RATINGS else read_answers(Path(name), plan.task)
            )
            given.of(plan.data.train)
        return
    number = step_number(name)
    config: PretrainedConfig | None
    if number is None:
        folder = resolve_model(name).path
        config, task = read_config(folder), read_manifest(folder).task
    elif 1 <= number <= len(plan.results):
        config, task = plan.results[number - 1]
    else:
        plan.refuse(f"{name} is not a pass before this one", f"Give step:1 to step:{len(plan.results)}.")
        return
    if name == options.teacher and config is not None and plan.config is not None:
        _check_layers(options, layer_count_of(config), layer_count_of(plan.config))
    if task is None:
        plan.refuse(f"{name} has no trained head", "Fine-tune it and give that folder.")
    elif plan.task is not None:
        order_of(task, plan.task, f"teacher {name}")
        if task.rules.condenses and config is not None and plan.config is not None:
            require_same_words(config, plan.config, f"teacher {name}")


def _check_layers(options: Distill, teacher: int, student: int) -> None:
    """Refuse what is to be matched of layers that are not there."""
    for each in options.match:
        each.pairs(teacher, student)


def _check_student(options: Distill, plan: ModelPlan) -> None:
    assert options.student is not None
    layers, teacher = layers_wanted(options.student), plan.config
    if options.student.startswith("new:"):
        plan.config = None if teacher is None else new_config(options.student, teacher)
    elif layers is None:
        folder = resolve_model(options.student).path
        plan.config, task = read_config(folder), read_manifest(folder).task
        if is_quantized(plan.config):
            plan.refuse("int8 weights cannot be trained", "Give the student as it was before quantize.")
        if task is not None and plan.data is not None:
            plan.data.aligned(task, f"student {options.student}")
            plan.task = task
        if task is None:
            check_head(plan)
    elif plan.config is not None:
        kept = chosen_layers(layers, layer_count_of(plan.config))
        plan.config = copy.deepcopy(plan.config)
        set_layer_count(plan.config, len(kept))
    if teacher is not None and plan.config is not None:
        _check_layers(options, layer_count_of(teacher), layer_count_of(plan.config))
        if plan.task is not None and plan.task.rules.condenses:
            require_same_words(teacher, plan.config, f"student {options.student}")
