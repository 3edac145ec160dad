"""The three files of a report, written together or not at all."""

from __future__ import annotations

from pathlib import Path

from compress.benchmark.html import to_html
from compress.benchmark.markdown import to_markdown
from compress.benchmark.report import NAME, Report
from compress.folders import replacing


def write_report(report: Report, out: Path) -> None:
    """Write `report.json`, `report.md` and `report.html` into `out`.

    Raises:
        FolderError: `out` holds something else or cannot be written.
    """
    with replacing(out) as new:
        (new / NAME).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (new / "report.md").write_text(to_markdown(report), encoding="utf-8")
        (new / "report.html").write_text(to_html(report), encoding="utf-8")
