"""`search.json` and `search.md`: who won, who else came far, and why the others lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from compress.benchmark.shapes import TEXTS
from compress.search.halving import RUNGS, Job
from compress.search.limits import Limits, shortfalls

if TYPE_CHECKING:
    from compress.search.proof import Candidate
    from compress.search.run import Found


def summary(found: Found, limits: Limits) -> dict[str, object]:
    """Return the winner, the Pareto set and why every other one lost, as plain values."""
    winner = found.winner
    return {
        "winner": str(found.folder),
        "structure": winner.job.structure.of(found.setting.whole),
        "form": f"{winner.variant} in {winner.runtime}",
        "speedup": list(winner.speedup),
        "latency_ms": winner.measured.latency_ms,
        "size_mb": winner.measured.size_mb,
        "metric": found.setting.task.main_metric,
        "validation": {"reference": found.setting.score, "winner": winner.score},
        "test": {
            "reference": _metric(found),
            "winner": winner.test,
            "change": None if winner.change is None else winner.change.model_dump(mode="json"),
        },
        "limits": limits.model_dump(mode="json", exclude_none=True),
        "missed": list(found.missed),
        "pareto": [_plain(each, found) for each in found.pareto],
        "lost": {**_measured(found, limits), **_unmeasured(found, limits)},
        "unfinished": list(found.unfinished),
    }


def _metric(found: Found) -> float:
    """Return the reference's metric on the test split."""
    return found.report.accuracy[0].metric.value


def _plain(candidate: Candidate, found: Found) -> dict[str, object]:
    return {
        "structure": candidate.job.structure.of(found.setting.whole),
        "form": f"{candidate.variant} in {candidate.runtime}",
        "folder": str(candidate.folder),
        "validation": candidate.score,
        "test": candidate.test,
        "speedup": list(candidate.speedup),
        "size_mb": candidate.measured.size_mb,
    }


def _measured(found: Found, limits: Limits) -> dict[str, str]:
    """Say why each candidate that was measured is not the winner."""
    reasons = {}
    for each in found.candidates:
        if each is found.winner:
            continue
        missed = ", ".join(shortfalls(each.measured, limits))
        name = f"{each.job.structure.of(found.setting.whole)}, {each.variant} in {each.runtime}"
        reasons[name] = missed or f"validation {each.score:.2f}, the winner {found.winner.score:.2f}"
    return reasons


def _unmeasured(found: Found, limits: Limits) -> dict[str, str]:
    """Say how far each structure of the shortlist came, and how many were never made."""
    whole = found.setting.whole
    reasons = {}
    measured = {each.job.structure for each in found.candidates}
    for structure in found.shortlist.structures:
        if structure in measured:
            continue
        reached = [rung for rung in RUNGS[1:] if Job(structure, rung) in found.results]
        if not reached:
            reasons[structure.of(whole)] = "not begun"
            continue
        result = found.results[Job(structure, reached[-1])]
        told = (
            f"divergence {result.divergence:.3f}"
            if reached[-1] == "shape"
            else f"validation {result.score:.2f}"
        )
        reasons[structure.of(whole)] = result.error or f"left after {reached[-1]}: {told}"
    passed = found.shortlist
    if passed.beyond:
        reasons[f"{passed.beyond} structures"] = "not within the limits by estimate"
    if passed.smaller:
        reasons[f"{passed.smaller} more"] = (
            "within, but smaller than another in everything, or than those of its depth"
        )
    return reasons


def write(found: Found, limits: Limits, out: Path) -> None:
    """Write both files into `out`."""
    told = summary(found, limits)
    (out / "search.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (out / "search.md").write_text("\n".join(markdown(found, limits)) + "\n", encoding="utf-8")


def markdown(found: Found, limits: Limits) -> list[str]:
    """Return the report's lines."""
    setting, told = found.setting, summary(found, limits)
    metric = setting.task.main_metric
    asked = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in limits if value is not None)
    verdict = "keeps all limits" if not found.missed else f"**misses: {'; '.join(found.missed)}**"
    first = next(row for row in found.report.rows if row.sequence_length == TEXTS.sequence_length)
    lines = [
        "# Search",
        "",
        f"Asked: {asked}. The winner, {told['structure']}, {told['form']}, {verdict}.",
        "",
        f"| structure | form | validation {metric} | test {metric} | against the reference (95%) | "
        "times as fast (95%) | ms | MB |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        f"| the reference | torch | {setting.score:.2f} | {_metric(found):.2f} |  | 1 | {first.latency_ms.p50:.2f} | "
        f"{first.size_mb:.1f} |",
    ]
    for each in sorted(found.candidates, key=lambda each: -each.speedup[0]):
        mark = "**" if each is found.winner else ""
        change = ""
        if each.change is not None:
            low, high = each.change.ci95
            change = f"{each.change.value:+.2f} [{low:+.2f}, {high:+.2f}]"
        speed = f"{each.speedup[0]:.1f}× [{each.speedup[1]:.1f}, {each.speedup[2]:.1f}]"
        star = " (Pareto)" if each in found.pareto else ""
        lines.append(
            f"| {mark}{each.job.structure.of(setting.whole)}{mark}{star} | {each.variant} in {each.runtime} | "
            f"{each.score:.2f} | {each.test:.2f} | {change} | {speed} | {each.measured.latency_ms:.2f} | "
            f"{each.measured.size_mb:.1f} |"
        )
    lines += [
        "",
        "Chosen by the validation split; the test split is the proof. Bench: `bench/report.html`. It is made again by "
        "`compress run recipe.yaml`.",
        "",
        "## Why the others lost",
        "",
        *(f"- {name}: {reason}" for name, reason in told["lost"].items()),  # type: ignore[attr-defined]
        *(f"- no time for {each}" for each in found.unfinished),
        *(f"- not tried: {each}" for each in found.table.left_out),
    ]
    return lines
