"""Several teachers as one: what they say of each text, beforehand or while the training goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compress.distillation.alignment import to_front
from compress.distillation.answers import Answers
from compress.distillation.ensemble import Ensemble, Order, order_of, weights_of
from compress.distillation.objective import ANSWER
from compress.distillation.signals import Signal, answering
from compress.distillation.teacher import Teacher, not_finite
from compress.distillation.transfer import TransferPart, joined, tokenized, vocabulary
from compress.errors import InputError
from compress.tasks.evaluate import evaluate
from compress.tasks.inputs import pad
from compress.tasks.task import in_percent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compress.data import TextData
    from compress.tasks import Task
    from compress.training.trainer import LiveTeacher

TEACHER_INPUTS = "teacher_inputs"
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

    def columns(self, parts: Sequence[TransferPart], task: Task, inside: set[Signal]) -> dict[str, Any]:
        """Return the answers to all parts, and the first teacher's signals, as columns of the examples.

        Args:
            parts: the text.
            task: the student's; the answers come in the order of its labels.
            inside: the signals that are wanted of the first teacher.

        Raises:
            InputError: an answer is broken or missing, or labels differ.
        """
        orders = self._orders(task)  # what cannot teach is refused before anything is computed
        answers: list[Any] = []
        columns: dict[str, Any] = {}
        for member in self.members:
            if isinstance(member, Answers):
                answers.append(joined([member.of(part.data) for part in parts]))
                continue
            wanted = inside if member is self.members[0] else set()
            found = [member.signals(part, wanted) for part in parts]
            answers.append(joined([each[member.answer] for each in found]))
            columns |= {str(signal): joined([each[signal] for each in found]) for signal in wanted}
        return columns | {ANSWER: Ensemble(answers, orders, self.weights)}

    @contextmanager
    def live(
        self, parts: Sequence[TransferPart], task: Task, inside: set[Signal]
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
        orders = self._orders(task)
        readers = [(each.artifact.tokenizer, each.artifact.task) for each in models]
        inputs = [joined([tokenized(part, *reader) for part in parts]) for reader in readers]
        with ExitStack() as stack:
            asked = [
                stack.enter_context(
                    answering(
                        each.artifact, {each.answer} | (inside if each is models[0] else set()), each.bf16
                    )
                )
                for each in models
            ]

            def answer(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
                found = [
                    {
                        signal: to_front(value, batch["attention_mask"], signal.rows)
                        for signal, value in ask(batch).items()
                    }
                    for ask, batch in zip(asked, batches, strict=True)
                ]
                said = [each.pop(model.answer) for each, model in zip(found, models, strict=True)]
                for model, each in zip(models, said, strict=True):
                    if count := not_finite(each):
                        raise model.broken(count)
                logits = [
                    w * each[..., order] for w, each, order in zip(self.weights, said, orders, strict=True)
                ]
                targets = {str(signal): value for signal, value in found[0].items()}
                return targets | {ANSWER: torch.stack(logits).sum(0)}

            yield {TEACHER_INPUTS: _Inputs(inputs, [tokenizer for tokenizer, _ in readers])}, answer

    def _orders(self, task: Task) -> list[Order]:
        """Return, for each teacher, where it keeps each of the student's labels.

        Raises:
            InputError: a teacher has another task, or its answers cannot be averaged with the others'.
        """
        own = [each.artifact.task if isinstance(each, Teacher) else task for each in self.members]
        if len(own) > 1 and task.rules.compared == "cosines":
            raise InputError(
                "vectors of several teachers have no common directions, so there is no mean of them",
                place="teachers",
                remedy="Give one teacher.",
            )
        models = [each.artifact for each in self.members if isinstance(each, Teacher)]
        read = {(vocabulary(each.tokenizer), each.task.max_length) for each in models}
        if task.per_token and len(read) > 1:
            raise InputError(
                f"the task is {task.kind}, and teachers with different tokenizers or max_length answer different "
                "tokens",
                place="teachers",
                remedy="Give teachers with one tokenizer and one max_length, or one teacher.",
            )
        return [order_of(each, task, "teacher") for each in own]


@dataclass(frozen=True)
class _Inputs:
    """What each teacher reads."""

    encoded: Sequence[Sequence[dict[str, list[int]]]]
    tokenizers: Sequence[PreTrainedTokenizerBase]

    def __getitem__(self, index: int) -> list[dict[str, list[int]]]:
        return [rows[index] for rows in self.encoded]

    def stack(self, rows: Sequence[list[dict[str, list[int]]]]) -> list[dict[str, Tensor]]:
        each = zip(*rows, strict=True)
        return [pad(inputs, tokenizer) for inputs, tokenizer in zip(each, self.tokenizers, strict=True)]


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
