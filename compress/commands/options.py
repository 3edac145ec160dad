"""Options that commands share, and the way a command's option takes its help from a pass's field."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from compress.errors import InputError
from compress.processes import is_first
from compress.tasks import TaskKind

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where the result goes.", show_default="below runs/"),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="D", help="A csv, tsv, jsonl or parquet file, a folder, a packaged name, a hub id."
    ),
]
Kind = Annotated[
    TaskKind | None,
    typer.Option("--task", help="What the data poses.", show_default="detected"),
]
Text = Annotated[str | None, typer.Option("--text", help="Column of the text.", show_default="detected")]
TextPair = Annotated[
    str | None, typer.Option("--text-pair", help="Column of the second text.", show_default="detected")
]
Label = Annotated[str | None, typer.Option("--label", help="Column of the label.", show_default="detected")]
Separator = Annotated[
    str | None,
    typer.Option("--separator", help="What stands between the classes of a row, where it may have several."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Device = Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where models run.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the result.")]


def field(kind: type[BaseModel], name: str, *flags: str) -> Any:
    """Return a typer option with the help text and default of a pydantic field."""
    info = kind.model_fields[name]
    default = info.default
    shown: str | bool = False
    if default is not None and not info.is_required():
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return typer.Option(*flags, help=_sentence(info.description or ""), show_default=shown)


Model = TypeVar("Model", bound=BaseModel)


def build(kind: type[Model], **options: Any) -> Model:
    """Make a pydantic object of a command's options, leaving out those not given.

    Raises:
        InputError: one line for each option that is wrong.
    """
    from compress.recipe import explain_validation

    try:
        return kind(**{name: value for name, value in options.items() if value is not None and value != []})
    except ValidationError as error:
        raise InputError(explain_validation(error, kind), place="options", remedy="See --help.") from error


def finish(result: dict[str, Any], as_json: bool) -> None:
    """Print a command's result on stdout: as JSON, or as `name: value` lines."""
    if not is_first():
        return
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2, default=str) + "\n")
    else:
        for name, value in result.items():
            if value not in (None, [], {}, ()):
                sys.stdout.write(f"{name}: {_plain(value)}\n")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
