"""`report.md`: what a CI job prints."""

from __future__ import annotations

from compress.benchmark.quality_tables import READING_PARTS, parts, robustness
from compress.benchmark.report import Report
from compress.benchmark.steps import steps
from compress.benchmark.tables import Table, details, load, machine, method, summary, weights, widths


def to_markdown(report: Report) -> str:
    """Return the report as Markdown whose tables read well as plain text too."""
    notes = [f"- {note}" for note in report.notes]
    sections = [
        "# Bench",
        to_table(summary(report)),
        method(report),
        *(["\n".join(notes)] if notes else []),
        *_section("Throughput under load", load(report)),
        *_section("What each pass bought and cost", steps(report)),
        *_section("Parts of the test set", parts(report), READING_PARTS),
        *_section("With noise in the texts", robustness(report)),
        *_section("Weights by part", weights(report)),
        "## All rows",
        to_table(details(report)),
        "## Machine",
        to_table(machine(report)),
        f"Measured {report.created}.",
    ]
    return "\n\n".join(sections) + "\n"


def _section(title: str, table: Table | None, reading: str = "") -> list[str]:
    return [] if table is None else [f"## {title}", to_table(table), *([reading] if reading else [])]


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
