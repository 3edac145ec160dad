"""A comparison as Markdown."""

from __future__ import annotations

from compress.benchmark.comparison import Change, Comparison
from compress.benchmark.markdown import to_table
from compress.benchmark.tables import Table, digits_of
from compress.tasks import in_percent

_READING = (
    "Time is each model's speed-up over the first one in the same bench, then and now; its change is how much longer "
    "a call takes beside the first model's. Worse and better are shown at 5% with all comparisons allowed for, and "
    "worse is beyond the limit; unclear: it may be beyond the limit, and is not shown."
)


def to_markdown(comparison: Comparison) -> str:
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


def changes(comparison: Comparison) -> Table:
    """Return one line for each number that two benches have in common."""
    head = ["model", "runtime", "what", "verdict", "baseline", "now", "change", "95%"]
    return Table(head, [_change_line(change) for change in comparison.changes], 4)


def _change_line(change: Change) -> list[str]:
    entry = [change.name, change.runtime]
    if change.what == "metric":
        scale, digits = (1, digits_of(change.shape)) if in_percent(change.shape) else (0.01, 4)
        then, today = (f"{value:.{digits}f}" for value in (change.baseline, change.current))
        value, ends = f"{-scale * change.value:+.{digits}f}", change.ci95 or ()
        interval = ", ".join(f"{-scale * end:+.{digits}f}" for end in ends[::-1])
        return [*entry, change.shape, change.verdict, then, today, value, f"[{interval}]"]
    if change.what == "size":
        cells = [f"{change.baseline:.1f}", f"{change.current:.1f}", f"{100 * (change.value - 1):+.1f}%", ""]
        return [*entry, "MB", change.verdict, *cells]
    interval = ", ".join(f"{100 * (end - 1):+.0f}%" for end in change.ci95 or ())
    cells = [f"{change.baseline:.2f}×", f"{change.current:.2f}×", f"{100 * (change.value - 1):+.0f}%"]
    return [*entry, f"time {change.shape}", change.verdict, *cells, f"[{interval}]" if interval else "–"]
