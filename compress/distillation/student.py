"""Where a student comes from: a name, or layers of its teacher."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from compress.errors import InputError

if TYPE_CHECKING:
    from compress.artifact import Artifact


Layers = int | tuple[int, ...]
"""So many layers of the teacher, evenly spaced; or those of these numbers, from 0."""


def layers_wanted(student: str) -> Layers | None:
    """Return N for `teacher:N`, layers for `teacher:0,2,5`, None for the name of a model.

    Raises:
        InputError: it starts with `teacher:` and neither follows.
    """
    if not student.startswith("teacher:"):
        return None
    text = student.removeprefix("teacher:")
    if re.fullmatch(r"[1-9]\d*", text):
        return int(text)
    if re.fullmatch(r"\d+(,\d+)*,?", text) and "," in text:
        return tuple(int(number) for number in text.rstrip(",").split(","))
    raise InputError(
        f"{student!r} is not a student",
        place="student",
        remedy="Write `teacher:3` for three evenly spaced layers of the teacher, `teacher:0,2,5` for these, or a "
        "model's name.",
    )


def chosen_layers(wanted: Layers, present: int) -> list[int]:
    """Return the layers, from 0 and ascending, that `wanted` means of a teacher with `present` layers.

    Raises:
        InputError: there are not so many, or they are not ascending.
    """
    from compress.pruning.layers import evenly_spaced

    if isinstance(wanted, int):
        if wanted > present:
            raise InputError(
                f"teacher:{wanted}, but the teacher has {present} layers", remedy="Give a smaller number."
            )
        return evenly_spaced(present, wanted)
    if list(wanted) != sorted(set(wanted)) or wanted[-1] >= present:
        raise InputError(
            f"cannot take layers {list(wanted)} of a teacher with {present}",
            place="student",
            remedy=f"Give ascending numbers from 0 to {present - 1}.",
        )
    return list(wanted)


def make_student(student: str, teacher: Artifact) -> Artifact:
    """Build the student that `student` names, with the teacher's task.

    `teacher:N` copies the teacher, head and embeddings included, and keeps N evenly spaced layers, the last one
    among them (as in Sanh et al. 2019, where DistilBERT starts from every second layer). A name is
    loaded; where it has no trained head it gets a new one for the teacher's task.
    """
    from compress.artifact import load
    from compress.pruning.layers import keep_layers

    wanted = layers_wanted(student)
    if wanted is None:
        return load(student, teacher.task)
    model = copy.deepcopy(teacher.model)
    keep_layers(model, chosen_layers(wanted, model.config.num_hidden_layers))
    return teacher.evolve(model=model, attachments={})
