"""Distil a teacher into a student."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from compress.errors import CompressError
from compress.passes.base import Context, ModelPlan
from compress.tasks.labels import match_labels
from compress.training.config import TrainingPass

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.distillation.teacher import Teacher


class Distill(TrainingPass):
    """Train a student on a teacher's soft targets beside the labels.

    Give `student` and the model that comes in is the teacher; give `teacher` and the model that comes in is
    the student, which is how a pruned or factorized model recovers.

    Example:
        - {pass: distill, student: "teacher:3", temperature: 2, kd_weight: 0.5}
        - {pass: distill, teacher: "step:1", epochs: 1}
    """

    name: ClassVar[str] = "distill"
    pass_: Literal["distill"] = Field("distill", alias="pass")
    student: str | None = Field(None, description="a model's name, or teacher:N for N layers of the teacher")
    teacher: str | None = Field(
        None, description="a model's name, or step:N for the result of pass N (from 1)"
    )
    temperature: PositiveFloat = Field(2, description="T, softens both distributions")
    kd_weight: float = Field(
        0.5, ge=0, le=1, description="weight of the teacher's term; the labels get the rest"
    )
    cache: bool = Field(True, description="keep the teacher's answers on disk; off: it answers at every step")

    def check(self, plan: ModelPlan) -> None:
        """Refuse a missing or surplus teacher or student, labels that differ, too many layers."""
        named = self.student is not None and not self.student.startswith("teacher:")
        if named:
            plan.quantized = False  # the model that comes in only answers; _check_student looks at the other
        self.check_trainable(plan)
        if (self.student is None) == (self.teacher is None):
            plan.refuse(
                "give either a student or a teacher",
                "The model that comes in is the other one: set `student: teacher:3`, or `teacher: step:1`.",
            )
            return
        if plan.task is None and (self.student is not None or plan.config is not None):
            who = "teacher" if self.student is not None else "student"
            plan.refuse(f"the {who} has no trained head for the task", "Put a finetune pass before this one.")
            return
        try:
            if self.teacher is not None:
                self._check_teacher(plan)
            else:
                self._check_student(plan)
        except CompressError as error:
            plan.errors.append(f"{plan.place}: {error}")

    def _check_teacher(self, plan: ModelPlan) -> None:
        from compress.artifact import read_manifest
        from compress.sources import resolve_model

        assert self.teacher is not None
        number = step_number(self.teacher)
        if number is not None:
            if not 1 <= number <= plan.steps:
                plan.refuse(
                    f"{self.teacher} is not a pass before this one", f"Give step:1 to step:{plan.steps}."
                )
            return
        task = read_manifest(resolve_model(self.teacher).path).task
        if task is None:
            plan.refuse(f"{self.teacher} has no trained head", "Fine-tune it and give that folder.")
        elif plan.task is not None:
            match_labels(task.labels, plan.task.labels, f"teacher {self.teacher}")

    def _check_student(self, plan: ModelPlan) -> None:
        from compress.architectures import layer_count_of, set_layer_count
        from compress.artifact import read_config, read_manifest
        from compress.distillation.student import layers_wanted
        from compress.reload import is_quantized
        from compress.sources import resolve_model

        assert self.student is not None
        layers = layers_wanted(self.student)
        if layers is None:
            folder = resolve_model(self.student).path
            plan.config, task = read_config(folder), read_manifest(folder).task
            if is_quantized(plan.config):
                plan.refuse("int8 weights cannot be trained", "Give the student as it was before quantize.")
            if task is not None and plan.data is not None:
                plan.data.aligned(task, f"student {self.student}")
                plan.task = task
        elif plan.config is not None:
            present = layer_count_of(plan.config)
            if layers > present:
                plan.refuse(f"{self.student}, but the teacher has {present} layers", "Give a smaller number.")
            plan.config = copy.deepcopy(plan.config)
            set_layer_count(plan.config, layers)

    def model_names(self) -> tuple[str, ...]:
        """Return the student or teacher that is given by a model's name."""
        names = (self.student or self.teacher or "",)
        return tuple(name for name in names if name and not name.startswith(("teacher:", "step:")))

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the trained student."""
        import numpy as np

        from compress.distillation.objectives import SoftTargetObjective
        from compress.distillation.student import make_student
        from compress.tasks.inputs import encode
        from compress.training.examples import Examples
        from compress.training.trainer import train

        data = context.data
        assert data is not None
        teacher = self._teacher(artifact, context)
        student = artifact if self.student is None else make_student(self.student, teacher.artifact)
        task = student.task
        data = data.aligned(task)
        order = match_labels(teacher.artifact.task.labels, task.labels, "teacher") if task.labels else [0]
        examples = Examples.of(data.train, student.tokenizer, task)
        live = None
        if self.cache:
            examples.teacher_logits = np.asarray(
                teacher.logits(data.train, f"{data.fingerprint}/train")[:, order]
            )
        else:
            examples.teacher_encoded = encode(data.train, teacher.artifact.tokenizer, teacher.artifact.task)
            live = (teacher.artifact.model, teacher.artifact.tokenizer, order)
        train(
            student.model,
            student.tokenizer,
            task,
            examples,
            Examples.of(data.validation, student.tokenizer, task),
            self,
            context,
            SoftTargetObjective(task, self.kd_weight, self.temperature),
            live,
            title="distil",
        )
        context.notes.append(f"teacher: {teacher.artifact.manifest.source or 'the model that came in'}")
        return student

    def _teacher(self, artifact: Artifact, context: Context) -> Teacher:
        from compress.artifact import content_hash, load
        from compress.distillation.teacher import Teacher
        from compress.hardware import fast_bf16
        from compress.sources import resolve_model

        if self.teacher is None:
            assert context.input_folder is not None
            folder = context.input_folder
        else:
            number = step_number(self.teacher)
            folder = context.steps[number - 1] if number is not None else resolve_model(self.teacher).path
            artifact = load(folder)
        bf16 = fast_bf16(context.device) if self.bf16 is None else self.bf16
        artifact.model.to(context.device)  # type: ignore[arg-type]
        return Teacher(artifact, content_hash(folder), bf16)


def step_number(name: str) -> int | None:
    """Return N for `step:N`, None for anything else."""
    match = re.fullmatch(r"step:(\d+)", name)
    return int(match[1]) if match else None
