"""The report's summary on the terminal."""

from __future__ import annotations

from compress.benchmark.report import Report
from compress.benchmark.tables import brief
from compress.display import console, say


def print_table(report: Report) -> None:
    """Print one line for each model × runtime and the notes, on stderr."""
    import rich.box
    import rich.markup
    import rich.table
    from rich.console import Console

    table = brief(report)
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for index, head in enumerate(table.head):
        shown.add_column(head, justify="left" if index < table.text_columns else "right")
    for row in table.rows:
        shown.add_row(*map(rich.markup.escape, row))
    # A log has no width to fit.
    log = Console(stderr=True, highlight=False, width=200, quiet=console.quiet)
    (console if console.is_terminal else log).print(shown)
    for note in report.notes:
        say(f"note: {note}")
