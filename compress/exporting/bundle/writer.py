"""Puts a bundle together: the ONNX file, what reads text for it, what runs it, and what is to be known of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from compress.errors import InputError
from compress.exporting.bundle.card import Facts, card_values, readme_values
from compress.manifest import NAME as MANIFEST
from compress.manifest import hash_file, hash_folder

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.benchmark.report import Report

SUMS = "SHA256SUMS"
SETTINGS = "bundle.json"
_FILLED = ("README.md", "MODEL_CARD.md")  # the other templates are copied as they are


def write_bundle(
    artifact: Artifact,
    model: Path,
    folder: Path,
    *,
    notes: Sequence[str] = (),
    examples: int | None = None,
    report: Report | None = None,
) -> Path:
    """Write a self-contained folder that classifies text with an exported model.

    It holds the ONNX file below `onnx/`, `config.json` and tokenizer as optimum and transformers.js read them,
    `bundle.json` for its own runners, `manifest.json`, a README, a model card, and `SHA256SUMS` over all of that.

    Args:
        artifact: what was exported; it is not changed.
        model: its ONNX file, with external data beside it.
        folder: where the bundle goes; it must not exist.
        notes: what the export found, a line each, for the model card.
        examples: size of the validation split that the history's metrics come from, where it is known.
        report: a bench whose table goes into the README.

    Returns:
        `folder`.

    Raises:
        InputError: the model has no trained head, or its tokenizer no `tokenizer.json`.
    """
    folder.mkdir(parents=True)
    artifact.tokenizer.save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise InputError(
            "the tokenizer cannot be written as tokenizer.json",
            place=type(artifact.tokenizer).__name__,
            remedy="A bundle reads text with the tokenizers library; export this model without --bundle.",
        )
    _cut_as_trained(folder / "tokenizer_config.json", artifact.task.max_length)
    (folder / "onnx").mkdir()
    for file in model.parent.glob(f"{model.name}*"):
        shutil.copyfile(file, folder / "onnx" / file.name)
    settings = _settings(artifact, model)
    _write_json(folder / SETTINGS, settings)
    _write_json(folder / "config.json", _config(artifact))
    facts = Facts(artifact.manifest, settings, model.stat().st_size, tuple(notes), examples, report)
    _copy_templates(folder, readme_values(facts) | card_values(facts))
    recorded = artifact.manifest.model_copy(update={"files": hash_folder(folder)})
    (folder / MANIFEST).write_text(recorded.model_dump_json(indent=2) + "\n", encoding="utf-8")
    sums = recorded.files | {MANIFEST: hash_file(folder / MANIFEST)}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return folder


def _settings(artifact: Artifact, model: Path) -> dict[str, Any]:
    """Return what the runners have to know: task, labels, how text becomes tokens, which file to open."""
    task, tokenizer = artifact.task, artifact.tokenizer
    return {
        "format": 1,
        "name": artifact.manifest.source or artifact.model.config.model_type,
        "task": "multi_label" if task.kind == "multilabel" else task.kind,
        "labels": list(task.labels),
        "pair": task.pair,
        "max_length": task.max_length,
        "truncation_side": tokenizer.truncation_side,
        "padding": {
            "id": tokenizer.pad_token_id or 0,
            "type_id": tokenizer.pad_token_type_id,
            "side": tokenizer.padding_side,
        },
        "model": f"onnx/{model.name}",
        "tokenizer": "tokenizer.json",
    }


def _config(artifact: Artifact) -> dict[str, Any]:
    """Return the family's own config with the labels written out, as other libraries read it.

    What compress keeps in `quantization_config` describes weights that a bundle does not hold.
    """
    config: dict[str, Any] = json.loads(artifact.model.config.to_json_string())
    config.pop("quantization_config", None)
    named = dict(enumerate(artifact.task.labels or ("LABEL_0",)))  # transformers' name of a lone number
    labels = {"id2label": named, "label2id": {label: index for index, label in named.items()}}
    return config | labels | {"architectures": [type(artifact.model).__name__]}


def _cut_as_trained(config: Path, max_length: int) -> None:
    """Let other libraries cut text where the task does: they read `model_max_length`."""
    settings: dict[str, Any] = json.loads(config.read_bytes())
    _write_json(config, settings | {"model_max_length": max_length})


def _copy_templates(folder: Path, values: dict[str, str]) -> None:
    with as_file(files("compress.exporting.bundle") / "templates") as templates:
        ignore = shutil.ignore_patterns("__pycache__", "node_modules", "vendor")
        shutil.copytree(templates, folder, dirs_exist_ok=True, ignore=ignore)
    for name in _FILLED:
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(Template(text).substitute(values), encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
