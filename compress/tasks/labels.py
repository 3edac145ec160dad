"""Class names decide, never positions: two label orders are matched by name or refused."""

from __future__ import annotations

from collections.abc import Sequence

from compress.errors import InputError


def match_labels(have: Sequence[str], want: Sequence[str], place: str) -> list[int]:
    """Return for each label of `want` its position in `have`, so `have[result[i]]` means `want[i]`.

    Upper and lower case are alike, and so are `LABEL_1` and `1`, the names transformers gives for want of better.

    Raises:
        InputError: the two are not the same set of names.
    """
    positions = {_plain(label): i for i, label in enumerate(have)}
    wanted = [_plain(label) for label in want]
    if len(positions) != len(have) or set(positions) != set(wanted) or len(wanted) != len(have):
        raise InputError(
            f"labels differ: {_list(have)} against {_list(want)}",
            place=place,
            remedy="Both must name the same classes; rename them in the data or in the model's config (id2label).",
        )
    return [positions[label] for label in wanted]


def _plain(label: str) -> str:
    return label.casefold().removeprefix("label_")


def _list(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
    return f"[{shown}]"
