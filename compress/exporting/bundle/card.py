"""The words of a bundle's README and model card, from the manifest, the export's notes and a bench."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.benchmark.markdown import to_table
from compress.benchmark.statistics import wilson_interval
from compress.benchmark.tables import Table, method, summary

if TYPE_CHECKING:
    from compress.benchmark.report import Report
    from compress.manifest import Manifest, PassRecord

_QUESTIONS = {
    "classification": "one label out of {count}",
    "multi_label": "any number of labels out of {count}",
    "regression": "one number",
}
_WORTH_TELLING = (
    "teacher",
    "student",
    "epochs",
    "sparsity",
    "keep",
    "layers",
    "hidden",
    "max_size",
    "scheme",
)


@dataclass(frozen=True)
class Facts:
    """What is known of a bundle.

    Attributes:
        manifest: provenance of the exported model.
        settings: what `bundle.json` holds.
        bytes: of the ONNX file.
        notes: what the export found.
        examples: size of the validation split of the manifest's metrics; None where it is not known.
        report: a bench of this model; None where there is none.
    """

    manifest: Manifest
    settings: dict[str, Any]
    bytes: int
    notes: tuple[str, ...]
    examples: int | None
    report: Report | None


def readme_values(facts: Facts) -> dict[str, str]:
    """Return what the README's template asks for."""
    settings = facts.settings
    pair = settings["pair"]
    example = '"first text" "second text"' if pair else '"a text" "another text"'
    return {
        "name": settings["name"],
        "reads": "a pair of texts" if pair else "one text",
        "question": _question(settings),
        "example": example,
        "model": settings["model"],
        "megabytes": f"{facts.bytes / 1e6:.1f}",
        "max_length": str(settings["max_length"]),
        "dtype": "q8" if settings["model"].endswith("_quantized.onnx") else "fp32",
        "measured": _measured(facts.report),
    }


def card_values(facts: Facts) -> dict[str, str]:
    """Return what the model card's template asks for besides."""
    manifest, settings = facts.manifest, facts.settings
    data = manifest.data.source if manifest.data else "not recorded"
    return {
        "labels": ", ".join(settings["labels"]) or "a number",
        "data": data,
        "metrics": _metrics(facts),
        "steps": "\n".join(_step(number, record) for number, record in enumerate(manifest.history, 1))
        or "Nothing was done to it before the export.",
        "export": "\n".join(f"- {note}" for note in facts.notes) or "- nothing was noted",
        "versions": _versions(manifest),
    }


def _question(settings: dict[str, Any]) -> str:
    return _QUESTIONS[settings["task"]].format(count=len(settings["labels"]))


def _measured(report: Report | None) -> str:
    if report is None:
        return (
            "No bench came with this bundle. `compress bench FOLDER --data D` measures one, and\n"
            "`compress export MODEL --bundle --report report.json` puts its table here."
        )
    notes = [f"- {note}" for note in report.notes]
    processor = report.machine.get("processor", "an unknown processor")
    parts = [to_table(summary(report)), method(report), *(["\n".join(notes)] if notes else [])]
    return "\n\n".join([*parts, f"Measured {report.created} on {processor}."])


def _metrics(facts: Facts) -> str:
    history, labels = facts.manifest.history, facts.settings["labels"]
    scores = history[-1].after if history else {}
    if not scores:
        return "No score is recorded for this model."
    rows = [
        [name, _score(name, value), _interval(name, value, facts.examples)] for name, value in scores.items()
    ]
    where = f"On the validation split ({facts.examples or 'an unrecorded number of'} examples)"
    remark = "; precision, recall and f1 are of the second label" if len(labels) == 2 else ""
    table = to_table(Table(["metric", "value", "95% interval"], rows, text_columns=1))
    return f"{where}{remark}:\n\n{table}"


def _score(name: str, value: float) -> str:
    return f"{value:.3f}" if name in ("spearman", "pearson", "mse") else f"{value:.1f}"


def _interval(name: str, value: float, examples: int | None) -> str:
    """Return Wilson's interval of an accuracy; other metrics need the answers themselves."""
    if name != "accuracy" or not examples:
        return "–"
    low, high = wilson_interval(round(value * examples / 100), examples)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _step(number: int, record: PassRecord) -> str:
    told = {name: record.config[name] for name in _WORTH_TELLING if record.config.get(name) is not None}
    options = f" ({', '.join(f'{name} {_plain(value)}' for name, value in told.items())})" if told else ""
    metric = next(iter(record.after), None)
    score = f"; {metric} on dev {_score(metric, record.after[metric])}" if metric else ""
    lines = [f"{number}. **{record.name}**{options}, seed {record.seed}, {record.seconds:.0f} s{score}"]
    return "\n".join([*lines, *(f"   - {note}" for note in record.notes)])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _versions(manifest: Manifest) -> str:
    found = manifest.history[-1].versions if manifest.history else {}
    return ", ".join(f"{name} {version}" for name, version in found.items()) or "not recorded"
