"""Tables of the suite: pure functions of cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.no_retraining.cells import Cell
from bench.no_retraining.methods import DENSE, METHODS, RECOVERED_SHARE, SHARES, Kind
from bench.no_retraining.models import MODELS
from compress.benchmark.statistics import mcnemar_exact, paired_difference_interval, wilson_interval

HEADINGS: dict[Kind, str] = {
    "prune": "weights of heads and FFN removed",
    "factorize": "weights of the layers' linear modules kept",
}


def record(cell: Cell, dense: Cell) -> dict[str, Any]:
    """Return a cell's numbers: accuracy and difference to the dense model in points, with 95% intervals."""
    numbers: dict[str, Any] = {"model": cell.model, "method": cell.method, "share": cell.share}
    if cell.right is not None and dense.right is not None:
        rows, right = len(cell.right), int(cell.right.sum())
        lost, won = int((dense.right & ~cell.right).sum()), int((cell.right & ~dense.right).sum())
        numbers |= {
            "accuracy": 100 * right / rows,
            "accuracy_ci95": _points(wilson_interval(right, rows)),
            "difference": 100 * (won - lost) / rows,
            "difference_ci95": _points(paired_difference_interval(lost, won, rows)),
            "difference_p": mcnemar_exact(lost, won),
            "rows": rows,
        }
    return numbers | cell.facts


def tables(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the Markdown lines of all tables, model by model."""
    lines: list[str] = []
    for model in dict.fromkeys(record["model"] for record in records):
        own = [record for record in records if record["model"] == model]
        dense = next(record for record in own if record["method"] == DENSE)
        options = MODELS[model]
        lines += [
            f"## {options.model} on {options.data}",
            "",
            f"Dense: {dense['accuracy']:.2f} {_interval(dense['accuracy_ci95'])}, {dense['rows']} test rows.",
            "",
        ]
        for kind in HEADINGS:
            chosen = [r for r in own if METHODS[r["method"]].kind == kind]
            plain = [r for r in chosen if not METHODS[r["method"]].recovers]
            if plain:
                lines += [*accuracy_table(plain, kind), *facts_table(plain, kind)]
        recovered = [r for r in own if METHODS[r["method"]].recovers]
        if recovered:
            lines += recovery_table(recovered)
    return lines


def accuracy_table(records: Iterable[dict[str, Any]], kind: Kind) -> list[str]:
    """Accuracy with its interval, and below it the paired difference to the dense model with its own."""
    return _table(
        f"accuracy, % (95%), difference to dense (95%); {HEADINGS[kind]}:",
        records,
        kind,
        lambda r: (
            f"{r['accuracy']:.2f} {_interval(r['accuracy_ci95'])} "
            f"**{r['difference']:+.2f}** {_interval(r['difference_ci95'])}"
        ),
    )


def facts_table(records: Iterable[dict[str, Any]], kind: Kind) -> list[str]:
    """The share really reached, the processor seconds it took, and whether a fresh process loads the result."""
    reached = (lambda r: 1 - r["kept"]) if kind == "prune" else (lambda r: r["kept"])
    return _table(
        f"really {'removed' if kind == 'prune' else 'kept'}; processor seconds; reloads with `from_pretrained`",
        records,
        kind,
        lambda r: f"{reached(r):.1%}; {r['cpu_seconds']:.1f} s; {_reload(r['reload'])}",
    )


def recovery_table(records: Iterable[dict[str, Any]]) -> list[str]:
    """After one epoch of training."""
    lines = [
        f"| after one epoch, {RECOVERED_SHARE:.0%} | accuracy (95%) | difference to dense (95%) | processor seconds |",
        "|---|---|---|---|",
    ]
    for r in records:
        cells = (
            [f"failed: {r['error']}", "", ""]
            if "error" in r
            else [
                f"{r['accuracy']:.2f} {_interval(r['accuracy_ci95'])}",
                f"{r['difference']:+.2f} {_interval(r['difference_ci95'])}",
                f"{r['cpu_seconds']:.0f}",
            ]
        )
        lines.append(f"| {METHODS[r['method']].title} | {' | '.join(cells)} |")
    return [*lines, ""]


def _table(title: str, records: Iterable[dict[str, Any]], kind: Kind, shown: Any) -> list[str]:
    shares = SHARES[kind]
    lines = [
        f"| {title} | {' | '.join(f'{share:.0%}' for share in shares)} |",
        f"|{'---|' * (len(shares) + 1)}",
    ]
    by_place = {(r["method"], r["share"]): r for r in records}
    failures: dict[str, str] = {}
    for method in dict.fromkeys(name for name, _ in by_place):
        cells = []
        for share in shares:
            r = by_place.get((method, share))
            if r is not None and "error" in r:
                failures[METHODS[method].title] = r["error"]
            cells.append("" if r is None else "failed" if "error" in r else shown(r))
        lines.append(f"| {METHODS[method].title} | {' | '.join(cells)} |")
    return [*lines, "", *(f"{title} failed: `{error}`\n" for title, error in failures.items())]


def _reload(outcome: str) -> str:
    return "yes" if outcome == "same" else "no" if outcome.startswith("not ") else outcome


def _points(interval: tuple[float, float]) -> list[float]:
    return [100 * end for end in interval]


def _interval(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.1f}, {ends[1]:.1f}]"
