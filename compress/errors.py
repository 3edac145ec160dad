"""The few kinds of error a user can meet; every message says cause, place and remedy."""

from __future__ import annotations


class CompressError(Exception):
    """Base of every expected failure. `cli.py` prints it as one message and exits with `exit_code`.

    Args:
        cause: what is wrong, in one clause.
        place: where it is: a file, a recipe key, a column, a module name.
        remedy: what the user can do about it.
    """

    exit_code = 2

    def __init__(self, cause: str, *, place: str = "", remedy: str = "") -> None:
        self.cause, self.place, self.remedy = cause, place, remedy
        message = f"{place}: {cause}" if place else cause
        super().__init__(f"{message}. {remedy}" if remedy else message)


class InputError(CompressError):
    """Something the user gave is wrong: a recipe, an option, a data file, a model name."""


class FolderError(CompressError):
    """A model folder is damaged, incomplete, or cannot be written."""


class BudgetError(CompressError):
    """A gate was not met; the best result found has been saved all the same."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
