"""Tasks: what head a model has, how its answers are scored."""

from compress.tasks.sequence import Task

__all__ = ["Task"]
