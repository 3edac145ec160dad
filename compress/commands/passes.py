"""finetune, distill, vocabulary, prune, factorize: one pass each, the result in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from compress.commands.chain import Model, data_config, default_data, run_passes
from compress.commands.options import (
    Data,
    Device,
    Json,
    Kind,
    Label,
    Out,
    Quiet,
    Seed,
    Separator,
    Text,
    TextPair,
    build,
    field,
)
from compress.passes.base import Pass
from compress.passes.distill import Distill
from compress.passes.factorize import Factorize
from compress.passes.finetune import Finetune
from compress.passes.prune import Prune
from compress.passes.vocabulary import Vocabulary

Epochs = Annotated[float | None, field(Distill, "epochs")]
LearningRate = Annotated[float | None, field(Distill, "learning_rate")]
BatchSize = Annotated[int | None, field(Distill, "batch_size")]
MaxLength = Annotated[int | None, field(Distill, "max_length")]
Patience = Annotated[int | None, field(Distill, "patience")]
Dropout = Annotated[float | None, field(Distill, "dropout")]
Bf16 = Annotated[bool | None, field(Distill, "bf16", "--bf16/--no-bf16")]


def finetune(
    model: Annotated[str, typer.Option("--model", metavar="M", help="What to train: a name or a folder.")],
    data: Data = None,
    task: Kind = None,
    out: Out = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    separator: Separator = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    max_length: MaxLength = None,
    patience: Patience = None,
    dropout: Dropout = None,
    bf16: Bf16 = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model on labelled text.

    Example: compress finetune --model minilm-l6 --data movie-reviews --out runs/teacher
    """
    pass_ = build(
        Finetune,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        patience=patience,
        dropout=dropout,
        bf16=bf16,
    )
    config = data_config(data, task, text, text_pair, label, separator)
    run_passes([pass_], model, out, config or default_data(model), seed, device, json, quiet)


def distill(
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", metavar="M", help="A name or a folder; fine-tuned first if it has no head."
        ),
    ],
    student: Annotated[
        str,
        typer.Option(
            "--student", metavar="M", help="A name, a folder, or teacher:N for N of the teacher's layers."
        ),
    ],
    data: Data = None,
    task: Kind = None,
    temperature: Annotated[float | None, field(Distill, "temperature")] = None,
    kd_weight: Annotated[float | None, field(Distill, "kd_weight")] = None,
    out: Out = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    separator: Separator = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    max_length: MaxLength = None,
    patience: Patience = None,
    dropout: Dropout = None,
    bf16: Bf16 = None,
    cache: Annotated[bool | None, field(Distill, "cache", "--cache/--no-cache")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a small student on a big teacher's answers.

    A teacher without a trained head is fine-tuned first, into a folder beside the result. Without --data it is
    what the teacher was trained on, else SST-2, else the packaged movie reviews.

    Example: compress distill --teacher bert-large --student distilbert

    Example: compress distill --teacher runs/teacher --student teacher:3 --data movie-reviews --out runs/small
    """
    from compress.artifact import read_manifest
    from compress.display import say
    from compress.sources import resolve_model

    shared: dict[str, Any] = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_length": max_length,
        "patience": patience,
        "dropout": dropout,
        "bf16": bf16,
    }
    passes: list[Pass] = [
        build(Distill, student=student, temperature=temperature, kd_weight=kd_weight, cache=cache, **shared)
    ]
    config = data_config(data, task, text, text_pair, label, separator)
    if read_manifest(resolve_model(teacher).path).task is None:
        passes.insert(0, build(Finetune, **shared))
        if not quiet:
            say(f"{teacher} has no trained head for the task: it is fine-tuned first.")
    run_passes(passes, teacher, out, config or default_data(teacher), seed, device, json, quiet, student)


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
