"""Where a student comes from: a name, layers of its teacher, or nothing but a size."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from compress.errors import InputError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from compress.artifact import Artifact


MADE = ("teacher:", "new:")  # how the names of students begin that are made of the teacher

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


def new_config(student: str, teacher: PretrainedConfig) -> PretrainedConfig | None:
    """Return the teacher's config with the sizes of `new:hidden_size=128,…`; None for another student.

    Raises:
        InputError: a size is no number, or the family's config has none of that name.
    """
    if not student.startswith("new:"):
        return None
    config = copy.deepcopy(teacher)
    for part in student.removeprefix("new:").split(","):
        name, _, text = part.partition("=")
        known = type(getattr(config, name.strip(), None)) is int and not name.strip().endswith("_id")
        if not known or not re.fullmatch(r"[1-9]\d*", text.strip()):
            sizes = sorted(n for n in config.to_dict() if re.search(r"(size|dim|layers|heads)$", n))
            raise InputError(
                f"{part!r} is no size of a {config.model_type}",
                place="student",
                remedy=f"Write sizes as in its config.json, new:num_hidden_layers=2; it has {', '.join(sizes)}.",
            )
        setattr(config, name.strip(), int(text))
    _require_possible(config)
    return config


def _require_possible(config: PretrainedConfig) -> None:
    """Build the bare model without memory for its weights: its own code knows which sizes go together."""
    import torch
    from transformers import AutoModel

    try:
        with torch.device("meta"):
            AutoModel.from_config(copy.deepcopy(config))
    except (ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"no model has these sizes ({first_line(error)})", place="student", remedy="Give others."
        ) from error


def make_student(student: str, teacher: Artifact) -> Artifact:
    """Build the student that `student` names, with the teacher's task.

    `teacher:N` copies the teacher, head and embeddings included, and keeps N evenly spaced layers, the last one
    among them (as in Sanh et al. 2019, where DistilBERT starts from every second layer). `new:…` is a model of the
    teacher's family and other sizes with random weights, under torch's current seed. A name is loaded; where it has
    no trained head it gets a new one for the teacher's task.

    Raises:
        InputError: there is no such model, layer or size, or the sizes do not go together.
    """
    from compress.artifact import load
    from compress.pruning.layers import keep_layers

    config = new_config(student, teacher.model.config)
    if config is not None:
        _require_room(config, teacher)
        return teacher.evolve(model=type(teacher.model)(config).eval(), attachments={})
    wanted = layers_wanted(student)
    if wanted is None:
        return load(student, teacher.task)
    model = copy.deepcopy(teacher.model)
    keep_layers(model, chosen_layers(wanted, model.config.num_hidden_layers))
    return teacher.evolve(model=model, attachments={})


def _require_room(config: PretrainedConfig, teacher: Artifact) -> None:
    """Refuse embeddings with fewer rows than the teacher's tokenizer, and positions fewer than the task's."""
    needed = {
        "vocab_size": len(teacher.tokenizer),
        "max_position_embeddings": teacher.task.max_length,
    }
    for name, least in needed.items():
        given, least = getattr(config, name, None), min(least, getattr(teacher.model.config, name, least))
        if isinstance(given, int) and given < least:
            raise InputError(
                f"{name} is {given}, and the student reads the teacher's tokens, which need {least:,}",
                place="student",
                remedy=f"Leave {name} out, or give {least:,} or more.",
            )
