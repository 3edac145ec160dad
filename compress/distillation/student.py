"""Where a student comes from: a name, or layers of its teacher."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from compress.errors import InputError

if TYPE_CHECKING:
    from compress.artifact import Artifact


def layers_wanted(student: str) -> int | None:
    """Return N for `teacher:N`, None for the name of a model.

    Raises:
        InputError: it starts with `teacher:` but no number of layers follows.
    """
    if not student.startswith("teacher:"):
        return None
    match = re.fullmatch(r"teacher:([1-9]\d*)", student)
    if match is None:
        raise InputError(
            f"{student!r} is not a student",
            place="student",
            remedy="Write `teacher:3` for three evenly spaced layers of the teacher, or a model's name.",
        )
    return int(match[1])


def make_student(student: str, teacher: Artifact) -> Artifact:
    """Build the student that `student` names, with the teacher's task.

    `teacher:N` copies the teacher, head and embeddings included, and keeps N evenly spaced layers, the last one
    among them (as in Sanh et al. 2019, where DistilBERT starts from every second layer). A name is
    loaded; where it has no trained head it gets a new one for the teacher's task.
    """
    from compress.artifact import load
    from compress.pruning.layers import evenly_spaced, keep_layers

    wanted = layers_wanted(student)
    if wanted is None:
        return load(student, teacher.task)
    model = copy.deepcopy(teacher.model)
    keep_layers(model, evenly_spaced(model.config.num_hidden_layers, wanted))
    return teacher.evolve(model=model, attachments={})
