"""`report.md`: what a CI job prints."""

from __future__ import annotations

from compress.benchmark.comparison import Comparison
from compress.benchmark.report import Report
from compress.benchmark.tables import (
    READING_PARTS,
    Table,
    changes,
    details,
    machine,
    method,
    parts,
    summary,
    widths,
)

_READING = (
    "Time is each model's speed-up over the first one in the same bench, then and now; its change is how much longer "
    "a call takes beside the first model's. Worse and better are shown at 5% with all comparisons allowed for, and "
    "worse is beyond the limit; unclear: it may be beyond the limit, and is not shown."
)


def to_markdown(report: Report) -> str:
    """Return the report as Markdown whose tables read well as plain text too."""
    notes = [f"- {note}" for note in report.notes]
    sections = [
        "# Bench",
        to_table(summary(report)),
        method(report),
        *(["\n".join(notes)] if notes else []),
        *_behind(report),
        "## All rows",
        to_table(details(report)),
        "## Machine",
        to_table(machine(report)),
        f"Measured {report.created}.",
    ]
    return "\n\n".join(sections) + "\n"


def _behind(report: Report) -> list[str]:
    table = parts(report)
    return [] if table is None else ["## Parts of the test set", to_table(table), READING_PARTS]


def comparison_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown, for a CI job's summary."""
    sections = ["# Bench, compared", to_table(changes(comparison)), _READING]
    unclear = [change for change in comparison.changes if change.verdict == "unclear"]
    needed = max((change.needed for change in unclear if change.needed), default=None)
    notes = [f"warning: {warning}" for warning in comparison.warnings]
    if unclear:
        more = f"; about {needed:.0f} times as many rounds or examples would tell" if needed else ""
        notes.append(
            f"{len(unclear)} of {len(comparison.changes)} numbers were measured too coarsely to tell{more}"
        )
    sections += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join(sections) + "\n"


def to_table(table: Table) -> str:
    """Return a table as Markdown that reads well as plain text too."""
    table = Table(table.head, _escaped(table.rows), table.text_columns)
    sizes = [max(3, width) for width in widths(table)]
    texts = table.text_columns

    def line(cells: list[str]) -> str:
        padded = [
            cell.ljust(size) if column < texts else cell.rjust(size)
            for column, (cell, size) in enumerate(zip(cells, sizes, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * size if column < texts else "-" * (size - 1) + ":" for column, size in enumerate(sizes)]
    return "\n".join([line(table.head), line(rule), *map(line, table.rows)])


def _escaped(rows: list[list[str]]) -> list[list[str]]:
    return [[cell.replace("|", "\\|") for cell in row] for row in rows]
