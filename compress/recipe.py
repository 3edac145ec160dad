"""The recipe: YAML in, typed passes out, every mistake told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from compress.benchmark.config import BenchConfig
from compress.data.config import DataConfig
from compress.errors import InputError
from compress.passes.catalog import PASSES, AnyPass

_SHAPES = {  # pydantic's names of types, as YAML has them
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}


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
    return "; ".join(_explain(kind, detail).removesuffix(".") for detail in error.errors())


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
    given = detail["input"]
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key{_hint(location[-1], _known_keys(kind, location))}"
    if detail["type"] == "union_tag_invalid":
        tags = [tag.strip("'") for tag in detail["ctx"]["expected_tags"].split(", ")]
        return f"{place}: there is no {detail['ctx']['tag']!r}{_hint(detail['ctx']['tag'], tags)}"
    if detail["type"] == "union_tag_not_found":
        key = detail["ctx"]["discriminator"].split(" | ")[-1].strip("'")
        return f"{place}: `{key}` is missing, which says what {given!r:.60} is."
    if detail["type"] in _SHAPES:
        return f"{place}: should be {_SHAPES[detail['type']]}, not {given!r:.60}."
    message = detail["msg"].removeprefix("Value error, ")
    shown = "" if detail["type"] == "missing" else f", not {given!r:.60}"
    return f"{place}: {message[0].lower()}{message[1:]}{shown}."


def _hint(wrong: Any, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(wrong), known, 1)
    return f"{f'; did you mean {close[0]}?' if close else '.'} Known: {', '.join(known)}."


def _known_keys(kind: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the keys of the object that holds an unknown one, which is the location's last part."""
    found = [kind]
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        if len(found) == 1:
            found = list(_models(_fields(found[0])[part].annotation))
        else:  # the tag that says which of several objects it is
            found = [each for each in found if any(part == field.default for field in _fields(each).values())]
    return [name for each in found for name in _fields(each)]


def _fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the objects that a field may hold, inside lists and unions too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


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
