"""Tasks: what head a model has, how text becomes its inputs and labels, how its answers are scored."""

from compress.tasks.task import Task, TaskKind, in_percent

__all__ = ["Task", "TaskKind", "in_percent"]
