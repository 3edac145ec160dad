"""Options that may be written in several forms: one message where none fits, in place of one for each form."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator


def either(forms: str) -> WrapValidator:
    """Return what makes a union's message `should be {forms}`, to be put beside it in `Annotated`."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ValueError(f"should be {forms}") from error

    return WrapValidator(check)
