"""The recipe: YAML in, typed passes out, every mistake told at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from compress.benchmark.config import BenchConfig
from compress.data.config import DataConfig
from compress.errors import InputError
from compress.passes.catalog import PASSES, AnyPass


class Recipe(BaseModel):
    """A model, data, passes in order, and a benchmark of every step.

    Example:
        name: quickstart
        model: minilm-l6
        data: movie-reviews
        passes:
          - {pass: finetune, epochs: 3}
          - {pass: quantize}
        bench: {threads: 1}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run's folder")
    model: str = Field(min_length=1, description="a folder, a packaged model, an alias or a hub id")
    data: DataConfig | None = Field(None, description="a data set's name or file, or its source and columns")
    seed: int = Field(0, ge=0, description="seed of everything random")
    device: Literal["cpu", "cuda"] = "cpu"
    passes: tuple[AnyPass, ...] = Field(description="what is done, in order")
    bench: BenchConfig | None = Field(None, description="how every step is measured; left out: not at all")

    @field_validator("data", mode="before")
    @classmethod
    def _bare_source(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("passes")
    @classmethod
    def _any_pass(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        # Not min_length: pydantic would count a pass that is itself wrong as missing too.
        if not value:
            raise ValueError("give at least one pass")
        return value

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a YAML file.

        Args:
            path: the file.
            overrides: `key.path=value` each, as `passes.0.epochs=1`; values are YAML.

        Raises:
            InputError: the file is missing or not YAML, or keys or values are wrong: all of them at once.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"cannot be read ({error.strerror})", place=str(path), remedy="Give the path of a recipe."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            cause = " ".join(str(error).split())
            raise InputError(
                f"not YAML ({cause})", place=str(path), remedy="See recipes/ for examples."
            ) from error
        if not isinstance(content, dict):
            raise InputError("not a recipe", place=str(path), remedy="It must be a mapping; see recipes/.")
        for override in overrides:
            _override(content, override)
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: dict[str, Any], place: str) -> Recipe:
        """Validate a recipe's content; raises InputError that lists all mistakes."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            lines = [_explain(cls, detail) for detail in error.errors()]
            raise InputError("\n  ".join([f"{len(lines)} mistake(s)", *lines]), place=place) from error

    def yaml(self) -> str:
        """Return the whole recipe as YAML, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False)


def explain_validation(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return one line for each mistake in an object made of a command's options."""
    return "; ".join(_explain(kind, detail) for detail in error.errors())


def _explain(kind: type[BaseModel], detail: Any) -> str:
    location = list(detail["loc"])
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        elif place.endswith("]") and part in PASSES:
            place += f" ({part})"
        else:
            place += ("." if place and not place.endswith(")") else ": " if place else "") + str(part)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(kind, location)
        close = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{place}: unknown key{hint} Known: {', '.join(known)}."
    message = detail["msg"].removeprefix("Value error, ")
    shown = "" if detail["type"] == "missing" else f", not {detail['input']!r:.60}"
    return f"{place}: {message[0].lower()}{message[1:]}{shown}."


def _known_keys(kind: type[BaseModel], location: list[Any]) -> list[str]:
    if location[0] == "passes" and len(location) > 2:
        kind = PASSES[location[2]]
    elif location[0] == "data" and len(location) > 1:
        kind = DataConfig
    elif location[0] == "bench" and len(location) > 1:
        kind = BenchConfig
    return [field.alias or name for name, field in kind.model_fields.items()]


def _override(content: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    place = f"--set {override}"
    if not separator:
        raise InputError("no value", place=place, remedy="Write --set passes.0.epochs=1.")
    *parents, last = path.split(".")
    target: Any = content
    for part in parents:
        if isinstance(target, str) and part != "":
            target = None
        elif isinstance(target, list):
            target = target[int(part)] if part.isdigit() and int(part) < len(target) else None
        elif isinstance(target, dict):
            target = target.setdefault(part, {})
        if target is None:
            break
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError("the value is not YAML", place=place, remedy="Quote it.") from error
    if isinstance(target, list) and last.isdigit() and int(last) < len(target):
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise InputError(
            f"the recipe has nothing at {path!r}",
            place=place,
            remedy="Passes are counted from 0: passes.0.epochs.",
        )
