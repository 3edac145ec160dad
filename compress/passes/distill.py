"""Distil teachers into a student."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from compress.data.augmentation import AnyAugmentation
from compress.distillation.matching import Matching
from compress.distillation.objectives import Match
from compress.distillation.schedule import Schedule, ends
from compress.distillation.student import MADE
from compress.either import either
from compress.passes.base import Context, ModelPlan, step_number
from compress.passes.finetune import task_of
from compress.training.config import TrainingPass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress.artifact import Artifact
    from compress.data import TextData
    from compress.data.texts import Texts
    from compress.distillation.answers import Answers
    from compress.distillation.teacher import Teacher
    from compress.distillation.transfer import TransferPart


class Distill(TrainingPass):
    """Train a student on its teachers' soft targets beside the labels, and on what happens inside the first one.

    Give `student` and the model that comes in is the teacher; give `teacher` and the model that comes in is
    the student, which is how a pruned or factorized model recovers.

    Example:
        - {pass: distill, student: "teacher:3", temperature: 2, kd_weight: 0.5}
        - {pass: distill, teacher: "step:1", epochs: 1}
        - pass: distill
          student: "teacher:3"
          teachers: [runs/other-teacher, answers.csv]
          teacher_weights: dev
          match: [{objective: hidden}, {objective: relations, layers: last}]
          unlabelled: reviews.txt
    """

    name: ClassVar[str] = "distill"
    pass_: Literal["distill"] = Field("distill", alias="pass")
    student: str | None = Field(
        None,
        description="a model's name, teacher:3 for so many layers of the teacher, teacher:0,2,5 for these",
    )
    teacher: str | None = Field(
        None,
        description="a model's name, step:N for the result of pass N (from 1), a file of answers, or ratings",
    )
    teachers: tuple[str, ...] = Field(
        (), description="further teachers, with any tokenizer; the mean of all their logits teaches"
    )
    teacher_weights: Annotated[
        Literal["equal", "dev"] | tuple[float, ...], either("equal, dev, or a list of numbers")
    ] = Field(
        "equal", description="of the teachers, the first one's first: equal, dev (by dev score) or numbers"
    )
    logits: Literal["kl", "mse"] = Field("kl", description="how logits are compared")
    temperature: Schedule = Field(2.0, description="T, softens both distributions; [4, 1] goes from 4 to 1")
    kd_weight: Schedule = Field(
        0.5, description="weight of the teacher's term; the labels get the rest; [1, 0.3] goes from 1 to 0.3"
    )
    match: tuple[Match, ...] = Field((), description="what to match inside the models")
    unlabelled: tuple[str, ...] = Field(
        (), description="more text, of which only the teacher knows the answer; one source or several"
    )
    augment: tuple[AnyAugmentation, ...] = Field(
        (), description="new texts made of the training text, of which only the teacher knows the answer"
    )
    augment_anew: bool = Field(False, description="make other new texts for every epoch")
    cache: bool = Field(
        True,
        description="keep the teacher's answers on disk; off, and for masked words: it answers at every step",
    )

    @field_validator("unlabelled", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("temperature", "kd_weight")
    @classmethod
    def _in_range(cls, value: Schedule, info: Any) -> Schedule:
        for number in ends(value):
            if info.field_name == "temperature" and number <= 0:
                raise ValueError("must be above 0")
            if info.field_name == "kd_weight" and not 0 <= number <= 1:
                raise ValueError("must be between 0 and 1")
        return value

    def check(self, plan: ModelPlan) -> None:
        """Refuse a missing or surplus teacher or student, labels that differ, layers that are not there."""
        from compress.passes.distill_checks import check

        check(self, plan)

    @property
    def matching(self) -> Matching:
        """What the student is to match."""
        return Matching(self.logits, self.kd_weight, self.temperature, self.match)

    def model_names(self) -> tuple[str, ...]:
        """Return the students and teachers that are given by a model's name."""
        from compress.distillation.answers import RATINGS, is_answers_file

        names = filter(None, (self.student, self.teacher, *self.teachers))
        made = [name for method in self.augment for name in method.model_names()]
        return tuple(made) + tuple(
            name
            for name in names
            if not name.startswith((*MADE, "step:")) and name != RATINGS and not is_answers_file(name)
        )

    def input_files(self) -> tuple[Path, ...]:
        """Return the files of answers and of text."""
        from compress.data.unlabelled import unlabelled_files
        from compress.distillation.answers import is_answers_file

        names = filter(None, (self.teacher, *self.teachers))
        given = [Path(name) for name in names if is_answers_file(name)]
        return (*given, *(file for source in self.unlabelled for file in unlabelled_files(source)))

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the trained student."""
        from compress.artifact import load
        from compress.distillation.run import distil
        from compress.distillation.student import make_student
        from compress.distillation.teachers import Teachers

        assert context.data is not None
        if self.teacher is not None and artifact.manifest.task is None:
            assert context.input_folder is not None
            artifact = load(context.input_folder, task_of(context.data, self.max_length))
        names = (self.teacher, *self.teachers)
        members = [self._teacher(name, artifact, context) for name in names]
        teachers = Teachers(members, self._weights(members, context.data))
        student = artifact if self.student is None else make_student(self.student, artifact)
        data = context.data.aligned(student.task)
        more = self._more_text(data, context)
        distil(student, teachers, data, more, self.matching, self, context, self.cache)
        if self.matching.labels_alone:
            context.notes.append(
                "labels alone: kd_weight is 0 and nothing is matched, so no teacher was asked"
            )
            return student
        for name, weight in zip(names, teachers.weights, strict=True):
            who = name or artifact.manifest.source or "the model that came in"
            context.notes.append(f"teacher: {who}" + (f" ({weight:.0%})" if self.teachers else ""))
        return student

    def _more_text(self, data: TextData, context: Context) -> list[TransferPart]:
        from compress.data.augmentation import augment
        from compress.data.unlabelled import load_unlabelled
        from compress.distillation.transfer import TransferPart

        found: list[tuple[Texts, int | None]] = [
            (load_unlabelled(source, data.pair, data), None) for source in self.unlabelled
        ]
        if self.augment:
            key = f"{data.fingerprint}/train"
            for turn in range(math.ceil(self.epochs)) if self.augment_anew else (None,):
                made = augment(data.train, self.augment, context.seed, key, context.device, turn or 0)
                found.append((made, turn))
        for texts, _ in found:
            context.notes.extend(texts.notes)
        return [TransferPart(texts.data, texts.fingerprint, turn) for texts, turn in found]

    def _weights(self, members: Sequence[Teacher | Answers], data: TextData) -> list[float]:
        """Return what each teacher's logits count; the weights add up to 1."""
        from compress.distillation.teachers import dev_weights

        given = self.teacher_weights
        if isinstance(given, tuple):
            return [each / sum(given) for each in given]
        if given == "dev" and len(members) > 1:
            return dev_weights(members, data)
        return [1 / len(members)] * len(members)

    def _teacher(self, name: str | None, artifact: Artifact, context: Context) -> Teacher | Answers:
        from compress.artifact import content_hash, load
        from compress.distillation.answers import RATINGS, is_answers_file, ratings, read_answers
        from compress.distillation.teacher import Teacher
        from compress.hardware import fast_bf16
        from compress.sources import resolve_model

        if name == RATINGS:
            assert context.data is not None
            return ratings(context.data.name, artifact.task)
        if name is not None and is_answers_file(name):
            return read_answers(Path(name), artifact.task)
        if name is None:
            assert context.input_folder is not None
            folder = context.input_folder
        else:
            number = step_number(name)
            folder = context.steps[number - 1] if number is not None else resolve_model(name).path
            artifact = load(folder)
        bf16 = fast_bf16(context.device) if self.bf16 is None else self.bf16
        artifact.model.to(context.device)  # type: ignore[arg-type]
        return Teacher(artifact, content_hash(folder), bf16)
