"""Several teachers as one: what they say of each text, beforehand or while the training goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from compress.distillation.alignment import (
    AlignedAnswers,
    Alignment,
    align,
    by_input,
    take_answers,
    to_front,
)
from compress.distillation.answers import Answers
from compress.distillation.counterparts import SAME
from compress.distillation.ensemble import Ensemble, Mean, order_of, require_same_words, weights_of
from compress.distillation.objective import ANSWER
from compress.distillation.readers import TEACHER_INPUTS, Reader, TeacherInputs
from compress.distillation.signals import Signal, answering
from compress.distillation.teacher import Teacher, not_finite
from compress.distillation.transfer import TransferPart, joined
from compress.errors import InputError
from compress.tasks.evaluate import evaluate
from compress.tasks.task import in_percent

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.data import TextData
    from compress.tasks import Task
    from compress.training.trainer import LiveTeacher

Member = Teacher | Answers


@dataclass(frozen=True)
class Teachers:
    """Those that teach one student.

    Args:
        members: one or several; what is matched inside is the first one's.
        weights: of their logits; they add up to 1.
    """

    members: Sequence[Member]
    weights: Sequence[float]

    @property
    def first(self) -> Teacher:
        """The one whose inside can be seen.

        Raises:
            InputError: it is no model.
        """
        if isinstance(self.members[0], Answers):
            raise InputError(
                "the first teacher is no model, so nothing inside it can be matched",
                place="match",
                remedy="Put a model first among the teachers, or leave match out.",
            )
        return self.members[0]

    def columns(
        self, parts: Sequence[TransferPart], student: Artifact, inside: set[Signal]
    ) -> dict[str, Any]:
        """Return the answers to all parts, and the first teacher's signals, as columns of the student's inputs.

        Args:
            parts: the text.
            student: the answers come in the order of its labels, and of its tokens where they are for tokens.
            inside: the signals that are wanted of the first teacher, in its own tokens; which of these are the
                student's is the column `SAME`.

        Raises:
            InputError: an answer is broken or missing, or labels differ.
        """
        mean = self._mean(student.task)  # what cannot teach is refused before anything is computed
        alignments = self._alignments(parts, student, inside)
        answers: list[Any] = []
        columns = _same(alignments, inside)
        for member, alignment in zip(self.members, alignments, strict=True):
            if isinstance(member, Answers):
                answers.append(joined([member.of(part.data) for part in parts]))
                continue
            wanted = inside if member is self.members[0] else set()
            found = [member.signals(part, wanted) for part in parts]
            answers.append(_by_token(joined([each[member.answer] for each in found]), alignment))
            columns |= {
                str(signal): by_input(joined([each[signal] for each in found]), alignment)
                for signal in wanted
            }
        return columns | {ANSWER: Ensemble(answers, mean, student.tokenizer.padding_side)}

    @contextmanager
    def live(
        self, parts: Sequence[TransferPart], student: Artifact, inside: set[Signal]
    ) -> Iterator[tuple[dict[str, Any], LiveTeacher]]:
        """Yield a column of what the teachers read, and what turns a batch of it into what `columns` gives.

        Arguments are those of `columns`.
        """
        models = [member for member in self.members if isinstance(member, Teacher)]
        if len(models) < len(self.members):
            raise InputError(
                "a teacher that is no model cannot answer at every step",
                place="cache",
                remedy="Leave cache on.",
            )
        mean = self._mean(student.task)
        alignments = self._alignments(parts, student, inside)
        if student.task.rules.condenses:
            for each in models:
                require_same_words(each.artifact.model.config, student.model.config, "teacher")
        readers = [Reader.of(each.artifact, parts, how) for each, how in zip(models, alignments, strict=True)]
        with ExitStack() as stack:
            asked = [
                stack.enter_context(
                    answering(
                        each.artifact, {each.answer} | (inside if each is models[0] else set()), each.bf16
                    )
                )
                for each in models
            ]

            def answer(batches: Sequence[tuple[Mapping[str, Tensor], Tensor | None]]) -> dict[str, Tensor]:
                said: list[Tensor] = []
                targets: dict[str, Tensor] = {}
                for model, ask, (batch, positions) in zip(models, asked, batches, strict=True):
                    found = {
                        signal: to_front(value, batch["attention_mask"], signal.rows)
                        for signal, value in ask(batch).items()
                    }
                    own = found.pop(model.answer)
                    if count := not_finite(own):
                        raise model.broken(count)
                    said.append(own if positions is None else take_answers(own, positions.to(own.device)))
                    targets |= {str(signal): value for signal, value in found.items()}
                return targets | {ANSWER: mean(said)}

            yield _same(alignments, inside) | {TEACHER_INPUTS: TeacherInputs(readers)}, answer

    def _mean(self, task: Task) -> Mean:
        """Return how the teachers' answers become one.

        Raises:
            InputError: a teacher has another task or other labels.
        """
        own = [each.artifact.task if isinstance(each, Teacher) else task for each in self.members]
        orders = [order_of(each, task, "teacher") for each in own]
        return Mean(orders, self.weights, vectors=task.rules.compared == "cosines")

    def _alignments(
        self, parts: Sequence[TransferPart], student: Artifact, inside: set[Signal]
    ) -> list[Alignment | None]:
        """Return how each teacher's tokens go with the student's, None where no tokens are compared."""
        deep = any(signal.rows for signal in inside)
        return [
            align(parts, each.artifact, student)
            if isinstance(each, Teacher) and (student.task.per_token or (deep and each is self.members[0]))
            else None
            for each in self.members
        ]


def _same(alignments: Sequence[Alignment | None], inside: set[Signal]) -> dict[str, Any]:
    first = alignments[0]
    return {SAME: first.positions(SAME)} if first is not None and any(each.rows for each in inside) else {}


def _by_token(column: Any, alignment: Alignment | None) -> Any:
    if alignment is None or not alignment.student.task.per_token:
        return column
    return AlignedAnswers(alignment.by_input(column), alignment.answer_positions())


def dev_weights(members: Sequence[Member], data: TextData) -> list[float]:
    """Return weights of teachers by their scores on the dev split.

    Raises:
        InputError: one of them is no model.
    """
    scores = []
    for member in members:
        if isinstance(member, Answers):
            raise InputError(
                "teacher_weights: dev wants teachers that are models",
                place="teacher_weights",
                remedy="Give numbers, or equal.",
            )
        task = member.artifact.task
        found = evaluate(member.artifact, data.aligned(task).validation, "score of a teacher")
        scores.append(found[task.main_metric] / (100 if in_percent(task.main_metric) else 1))
    return weights_of(scores)
