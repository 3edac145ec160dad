"""finetune and distill: the commands that train."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from compress.commands.chain import data_or_default, run_passes
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
from compress.distillation.student import MADE
from compress.errors import InputError
from compress.passes.base import Pass
from compress.passes.distill import Distill
from compress.passes.finetune import Finetune

Epochs = Annotated[float | None, field(Distill, "epochs")]
LearningRate = Annotated[float | None, field(Distill, "learning_rate")]
BatchSize = Annotated[int | None, field(Distill, "batch_size")]
MaxLength = Annotated[int | None, field(Distill, "max_length")]
Patience = Annotated[int | None, field(Distill, "patience")]
Dropout = Annotated[float | None, field(Distill, "dropout")]
Bf16 = Annotated[bool | None, field(Distill, "bf16", "--bf16/--no-bf16")]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="METHOD",
        help="Train a peft adapter and merge it: lora, or '{method: lora, r: 16}'.",
    ),
]
LabelSmoothing = Annotated[float | None, field(Distill, "label_smoothing")]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="WHERE", help="Log losses to tensorboard or wandb. May be repeated."),
]


_SHARED = (
    "epochs",
    "learning_rate",
    "batch_size",
    "max_length",
    "patience",
    "dropout",
    "bf16",
    "label_smoothing",
    "track",
)


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
    label_smoothing: LabelSmoothing = None,
    adapter: Adapter = None,
    track: Track = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model on labelled text.

    Example: compress finetune --model minilm-l6 --data movie-reviews --out runs/teacher
    """
    pass_ = build(Finetune, **_shared(locals()))
    config = data_or_default(data, model, **_reading(locals()))
    run_passes([pass_], model, out, config, seed, device, json, quiet)


def distill(
    teacher: Annotated[
        list[str],
        typer.Option(
            "--teacher",
            metavar="M",
            help="A name or a folder, fine-tuned first if it has no head; a file of answers; or ratings. More than "
            "one: the mean of their answers teaches.",
        ),
    ],
    student: Annotated[
        str,
        typer.Option(
            "--student",
            metavar="M",
            help="A name, a folder, teacher:3 for so many of the teacher's layers, teacher:0,2,5 for these, or "
            "new:hidden_size=128,num_hidden_layers=2 for a new model of its family.",
        ),
    ],
    teacher_weights: Annotated[
        str | None,
        typer.Option(
            metavar="W",
            help="Of several teachers, the first one's first: '[2, 1]'; or dev, by their scores on the dev split.",
            show_default="equal",
        ),
    ] = None,
    data: Data = None,
    task: Kind = None,
    logits: Annotated[Literal["kl", "mse"] | None, field(Distill, "logits")] = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            metavar="T", help="Softens both distributions; '[4, 1]' goes from 4 to 1.", show_default="2"
        ),
    ] = None,
    kd_weight: Annotated[
        str | None,
        typer.Option(
            metavar="W",
            help="Weight of the teacher's term, 0 to 1; the labels get the rest; '[1, 0.3]' goes from 1 to 0.3.",
            show_default="0.5",
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match",
            metavar="OBJECTIVE",
            help="What to match inside the models: hidden, embedding, attention, relations, sentence, or with "
            "options: '{objective: hidden, layers: last}'. May be repeated.",
        ),
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(
            "--unlabelled",
            metavar="D",
            help="More text, of which only the teacher knows the answer. May be repeated.",
        ),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            "--augment",
            metavar="METHOD",
            help="Make more text of the training text: word-swap, span-deletion, …, or with options: "
            "'{method: word-swap, copies: 2}'. May be repeated.",
        ),
    ] = None,
    augment_anew: Annotated[bool | None, field(Distill, "augment_anew", "--augment-anew")] = None,
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
    label_smoothing: LabelSmoothing = None,
    adapter: Adapter = None,
    track: Track = None,
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

    Example: compress distill --teacher runs/a --teacher runs/b --student minilm-l6 --match hidden --unlabelled more.txt
    """
    from compress.artifact import read_manifest
    from compress.display import say
    from compress.distillation.answers import RATINGS, is_answers_file
    from compress.sources import resolve_model

    shared, reading = _shared(locals()), _reading(locals())
    options = {
        "teacher_weights": _yaml(teacher_weights),
        "logits": logits,
        "temperature": _yaml(temperature),
        "kd_weight": _yaml(kd_weight),
        "match": [_choice(each, "objective") for each in match or ()],
        "unlabelled": unlabelled,
        "augment": [_choice(each, "method") for each in augment or ()],
        "augment_anew": augment_anew,
        "cache": cache,
        **shared,
    }
    first, *others = teacher
    if first == RATINGS or is_answers_file(first):
        if student.startswith(MADE):
            raise InputError(
                f"{student!r} is made of the first teacher, and {first} is no model",
                place="--student",
                remedy="Name a model as the student, or a model as the first teacher.",
            )
        known = build(Distill, teacher=first, teachers=others, **options)
        config = data_or_default(data, student, **reading)
        run_passes([known], student, out, config, seed, device, json, quiet)
        return
    passes: list[Pass] = [build(Distill, student=student, teachers=others, **options)]
    if read_manifest(resolve_model(first).path).task is None:
        passes.insert(0, build(Finetune, **shared))
        if not quiet:
            say(f"{first} has no trained head for the task: it is fine-tuned first.")
    config = data_or_default(data, first, **reading)
    run_passes(passes, first, out, config, seed, device, json, quiet, student)


def _shared(given: dict[str, Any]) -> dict[str, Any]:
    """Return, of a command's arguments, the options that every pass that trains has."""
    return {name: given[name] for name in _SHARED} | {"adapter": _choice(given["adapter"], "method")}


def _reading(given: dict[str, Any]) -> dict[str, str | None]:
    """Return, of a command's arguments, those that say how data is read."""
    return {name: given[name] for name in ("task", "text", "text_pair", "label", "separator")}


def _choice(text: str | None, key: str) -> dict[str, Any] | None:
    """Read `hidden` as `{key: hidden}`, and `{objective: hidden, layers: last}` as it stands."""
    value = _yaml(text)
    return value if value is None or isinstance(value, dict) else {key: str(value)}


def _yaml(text: str | None) -> Any:
    """Read an option as it would be read in a recipe."""
    import yaml

    try:
        return None if text is None else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"{text!r} is no YAML", place="options", remedy="Write it as in a recipe; see --help."
        ) from error
