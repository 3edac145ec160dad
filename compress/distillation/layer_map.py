"""Which layer of the teacher a layer of the student learns from."""

from __future__ import annotations

from typing import Annotated, Literal

from compress.either import either
from compress.errors import InputError

LayerMap = Annotated[
    Literal["uniform", "last"] | tuple[tuple[int, int], ...],
    either("uniform, last, or pairs [teacher's layer, student's layer]"),
]
"""`uniform`, `last`, or pairs of a teacher's and a student's layer, from 0: `[[3, 0], [7, 1]]`."""


def layer_pairs(layers: LayerMap, teacher: int, student: int) -> list[tuple[int, int]]:
    """Return pairs (teacher's layer, student's layer), from 0.

    `uniform` gives student layer i the last layer of the i-th of as many equal stretches of the teacher (Jiao et
    al. 2020, section 4.2: g(m) = 3 m), so the last layers meet; `last` pairs these only.

    Args:
        layers: by name, or pair by pair.
        teacher: layers the teacher has.
        student: layers the student has.

    Raises:
        InputError: a layer is out of range.
    """
    if layers == "last":
        return [(teacher - 1, student - 1)]
    if layers == "uniform":
        return [(max((i + 1) * teacher // student - 1, 0), i) for i in range(student)]
    wrong = [pair for pair in layers if not (0 <= pair[0] < teacher and 0 <= pair[1] < student)]
    if wrong or not layers:
        given = ", ".join(str(list(pair)) for pair in wrong) or "no pair at all"
        raise InputError(
            f"the layer map has {given}: the teacher has layers 0 to {teacher - 1}, the student 0 to {student - 1}",
            place="layers",
            remedy="Write pairs of the teacher's layer and the student's, [[3, 0], [7, 1]], or `uniform` or `last`.",
        )
    return list(layers)
