"""Bring a data set's classes into a model's order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from compress.errors import InputError
from compress.tasks.labels import match_labels

if TYPE_CHECKING:
    from compress.data import TextData
    from compress.tasks import Task


def align(data: TextData, task: Task, place: str) -> TextData:
    """Do what `TextData.aligned` says."""
    labels = task.labels
    if data.kind != task.kind and not {data.kind, task.kind} <= {"classification", "regression"}:
        raise InputError(
            f"the model's task is {task.kind}, the data poses {data.kind}",
            place=place,
            remedy="Give data of the model's task, or say which columns to read (text, text_pair, label, task).",
        )
    if task.kind != "embedding" and task.pair is not None and task.pair != data.pair:
        asked, given = ("text pairs", "single texts") if task.pair else ("single texts", "text pairs")
        raise InputError(
            f"the model reads {asked}, the data holds {given}",
            place=place,
            remedy="Give data of the model's task, or name its columns (text, text_pair).",
        )
    if bool(data.labels) != bool(labels):
        asked, given = ("classes", "numbers") if labels else ("numbers", "classes")
        raise InputError(
            f"the model answers {asked}, the labels are {given}",
            place=place,
            remedy="Give data of the model's task, or set `task:` in the recipe's data.",
        )
    if labels == data.labels:
        return data
    have = match_labels(data.labels, labels, place)
    new_id = {old: new for new, old in enumerate(have)}

    def relabel(row: dict[str, Any]) -> dict[str, Any]:
        label = row["label"]
        return {"label": [new_id[each] for each in label] if isinstance(label, list) else new_id[label]}

    splits = {name: getattr(data, name).map(relabel) for name in ("train", "validation", "test")}
    return dataclasses.replace(data, labels=labels, **splits)
