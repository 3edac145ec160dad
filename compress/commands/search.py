"""search: the best model within limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from compress.commands.options import Data, Json, Out, Quiet, Seed, build, field, finish
from compress.errors import BudgetError, InputError
from compress.search.limits import Limits

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def search(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A float model; fine-tuned first if it has no head.")
    ],
    data: Data = None,
    max_drop: Annotated[float | None, field(Limits, "max_drop")] = None,
    min_speedup: Annotated[float | None, field(Limits, "min_speedup")] = None,
    max_latency_ms: Annotated[float | None, field(Limits, "max_latency_ms")] = None,
    max_size_mb: Annotated[float | None, field(Limits, "max_size_mb")] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="40m", help="Begin nothing that would end later.")
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Of the last training, of the best two.")] = 3,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option("--unlabelled", metavar="D", help="More text for the last training. May be repeated."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of what is timed.")] = 1,
    out: Out = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the best model within limits of loss, speed, time and size; exit 1 with the nearest one where none is.

    The same command goes on where it was ended; several at once share one folder.

    Example: compress search minilm-l6 --data movie-reviews --max-drop 1.5 --min-speedup 10 --time-limit 40m
    """
    limits = build(
        Limits,
        max_drop=max_drop,
        min_speedup=min_speedup,
        max_latency_ms=max_latency_ms,
        max_size_mb=max_size_mb,
    )
    seconds = None if time_limit is None else seconds_of(time_limit)
    from compress.display import silence
    from compress.search import run
    from compress.search.report import summary
    from compress.search.setting import Options

    if quiet:
        silence()
    out = out or Path("runs") / f"search-{Path(model).name}"
    found = run.search(
        model,
        data,
        limits,
        out,
        threads=threads,
        options=Options(epochs, tuple(unlabelled or ())),
        time_limit=seconds,
        seed=seed,
    )
    told = summary(found, limits)
    if not json:
        told = {name: told[name] for name in ("winner", "structure", "form", "latency_ms", "size_mb")} | {
            "report": str(out / "search.md")
        }
    finish(told, json)
    if found.missed:
        raise BudgetError("; ".join(found.missed), remedy=f"The nearest model is in {found.folder}.")


def seconds_of(text: str) -> float:
    """Return the seconds of `90`, `90s`, `40m` or `1.5h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise InputError(f"{text!r} is no time", place="--time-limit", remedy="Write 90s, 40m or 1.5h.")
    return float(match[1]) * _UNITS[match[2]]
