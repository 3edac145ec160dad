"""The report's summary on the terminal."""

from __future__ import annotations

from compress.benchmark.report import Report
from compress.benchmark.tables import summary
from compress.display import console, say


def print_table(report: Report) -> None:
    """Print one line for each model × runtime and the notes, on stderr."""
    import rich.box
    import rich.markup
    import rich.table

    table = summary(report, every_shape=False)
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for index, head in enumerate(table.head):
        shown.add_column(head, justify="left" if index < table.text_columns else "right")
    for row in table.rows:
        shown.add_row(*map(rich.markup.escape, row))
    wide = None if console.is_terminal else 200  # a log has no width to fit
    console.print(shown, width=wide)
    for note in report.notes:
        say(f"note: {note}")
