"""vocabulary, prune, factorize: one pass each, the result in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from compress.commands.chain import Model, data_config, run_passes
from compress.commands.options import (
    Data,
    Device,
    Json,
    Out,
    Quiet,
    Seed,
    build,
    field,
)
from compress.passes.factorize import Factorize
from compress.passes.prune import Prune
from compress.passes.vocabulary import Vocabulary


def vocabulary(
    model: Model,
    rare: Annotated[Literal["share", "split"] | None, field(Vocabulary, "rare")] = None,
    min_count: Annotated[int | None, field(Vocabulary, "min_count")] = None,
    max_size: Annotated[int | None, field(Vocabulary, "max_size")] = None,
    keep: Annotated[Path | None, field(Vocabulary, "keep")] = None,
    recover: Annotated[float | None, field(Vocabulary, "recover")] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Keep the embedding rows that the training text needs; rare pieces read the nearest of them.

    Example: compress vocabulary runs/teacher --out runs/fewer-rows
    """
    pass_ = build(Vocabulary, rare=rare, min_count=min_count, max_size=max_size, keep=keep, recover=recover)
    run_passes([pass_], model, out, data_config(data), seed, device, json, quiet)


def prune(
    model: Model,
    sparsity: Annotated[float | None, field(Prune, "sparsity")] = None,
    flops: Annotated[float | None, field(Prune, "flops")] = None,
    target_speedup: Annotated[float | None, field(Prune, "target_speedup")] = None,
    sequence_length: Annotated[int | None, field(Prune, "sequence_length")] = None,
    heads: Annotated[float | None, field(Prune, "heads")] = None,
    ffn: Annotated[float | None, field(Prune, "ffn")] = None,
    layers: Annotated[int | None, field(Prune, "layers")] = None,
    choose_layers: Annotated[Literal["even", "effect"] | None, field(Prune, "choose_layers")] = None,
    hidden: Annotated[int | None, field(Prune, "hidden")] = None,
    criterion: Annotated[
        Literal["obs", "fisher", "taylor", "activation", "magnitude", "random"] | None,
        field(Prune, "criterion"),
    ] = None,
    scope: Annotated[Literal["global", "local"] | None, field(Prune, "scope")] = None,
    reconstruct: Annotated[bool | None, field(Prune, "reconstruct", "--reconstruct/--no-reconstruct")] = None,
    steps: Annotated[int | None, field(Prune, "steps")] = None,
    samples: Annotated[int | None, field(Prune, "samples")] = None,
    recover: Annotated[float | None, field(Prune, "recover")] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove attention heads, feed-forward neurons, layers or hidden width.

    Example: compress prune runs/teacher --sparsity 0.5 --out runs/pruned

    Example: compress prune runs/teacher --target-speedup 2 --recover 1 --out runs/fast
    """
    pass_ = build(
        Prune,
        sparsity=sparsity,
        flops=flops,
        target_speedup=target_speedup,
        sequence_length=sequence_length,
        heads=heads,
        ffn=ffn,
        layers=layers,
        choose_layers=choose_layers,
        hidden=hidden,
        criterion=criterion,
        scope=scope,
        reconstruct=reconstruct,
        steps=steps,
        samples=samples,
        recover=recover,
    )
    run_passes([pass_], model, out, data_config(data), seed, device, json, quiet)


def factorize(
    model: Model,
    keep: Annotated[float | None, field(Factorize, "keep")] = None,
    target_speedup: Annotated[float | None, field(Factorize, "target_speedup")] = None,
    sequence_length: Annotated[int | None, field(Factorize, "sequence_length")] = None,
    method: Annotated[
        Literal["kfac", "whitened", "fisher", "plain"] | None, field(Factorize, "method")
    ] = None,
    embeddings: Annotated[float | None, field(Factorize, "embeddings")] = None,
    reconstruct: Annotated[
        bool | None, field(Factorize, "reconstruct", "--reconstruct/--no-reconstruct")
    ] = None,
    samples: Annotated[int | None, field(Factorize, "samples")] = None,
    recover: Annotated[float | None, field(Factorize, "recover")] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hold linear layers as products of two thin matrices.

    Example: compress factorize runs/teacher --keep 0.5 --out runs/thin

    Example: compress factorize runs/teacher --target-speedup 1.5 --out runs/thin-fast
    """
    pass_ = build(
        Factorize,
        keep=keep,
        target_speedup=target_speedup,
        sequence_length=sequence_length,
        method=method,
        embeddings=embeddings,
        reconstruct=reconstruct,
        samples=samples,
        recover=recover,
    )
    run_passes([pass_], model, out, data_config(data), seed, device, json, quiet)
