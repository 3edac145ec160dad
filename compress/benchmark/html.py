"""`report.html`: one file, nothing loaded from elsewhere, light or dark as the reader's system is."""

from __future__ import annotations

from html import escape

from compress.benchmark.layer_picture import READING, STYLE, layer_picture
from compress.benchmark.plots import Plot, plots
from compress.benchmark.quality_tables import READING_PARTS, flips, parts, robustness
from compress.benchmark.report import Report
from compress.benchmark.steps import steps
from compress.benchmark.tables import Table, details, load, machine, method, summary, weights

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --surface: #ffffff; --ink: #16181d; --muted: #5c6068; --grid: #e3e3de;
  --torch: #2a6fd0; --onnxruntime: #d9622b; --openvino: #2f8f5b; --openvino-bf16: #8a56c2; --quiet: #8a8e96;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121316; --surface: #1b1d21; --ink: #eceef1; --muted: #a9adb5; --grid: #31343a;
    --torch: #5b9bf0; --onnxruntime: #ef8550; --openvino: #58bd88; --openvino-bf16: #b48ae6; --quiet: #777c85;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1360px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 40px 0 12px; }
p { margin: 0 0 8px; max-width: 90ch; color: var(--muted); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 16px; }
figure, .scroll { margin: 0; background: var(--surface); border: 1px solid var(--grid); border-radius: 10px; }
figure { padding: 16px 18px 10px; }
figcaption { font-weight: 600; }
figcaption span { display: block; font-weight: 400; font-size: 13px; color: var(--muted); }
svg { display: block; width: 100%; height: auto; margin-top: 8px; }
svg text { font-family: system-ui, sans-serif !important; }
.plots svg text { paint-order: stroke; stroke: var(--surface); stroke-width: 3px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 9px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { color: var(--muted); font-weight: 500; font-size: 12px; }
tr:last-child td { border-bottom: 0; }
.text { text-align: left; }
td.text:first-child { font-weight: 600; }
.wrap td { white-space: normal; }
.scroll + p { margin-top: 8px; }
details { margin: 8px 0; }
.texts td { white-space: normal; }
.texts td.text:first-child { font-weight: 400; }
summary { cursor: pointer; color: var(--muted); }
details .scroll { margin-top: 8px; }
.unshown { color: var(--quiet); }
ul { margin: 0; padding-left: 20px; color: var(--muted); }
"""


def to_html(report: Report) -> str:
    """Return the report as a page of its own."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bench of {escape(_models(report))}</title>
<style>{_STYLE}{STYLE}</style>
</head>
<body>
<main>
<h1>Bench of {escape(_models(report))}</h1>
<p>{escape(str(report.machine.get("processor", "")))}, {escape(report.created)}</p>
<h2>Summary</h2>
{_table(summary(report))}
<h2>Plots</h2>
<div class="plots">{"".join(map(_figure, plots(report)))}</div>
{_section("Throughput under load", load(report))}
{_section("What each pass bought and cost", steps(report))}
{_behind(report)}
{_section("With noise in the texts", robustness(report))}
{_layers(report)}
{_section("Weights by part", weights(report))}
<h2>How it was measured</h2>
<p>{escape(method(report))}</p>
<ul>{notes}</ul>
<h2>All rows</h2>
{_table(details(report))}
<h2>Machine</h2>
{_table(machine(report), "wrap")}
</main>
</body>
</html>
"""


def _section(title: str, table: Table | None) -> str:
    return "" if table is None else f"<h2>{title}</h2>{_table(table)}"


def _layers(report: Report) -> str:
    picture = layer_picture(report)
    return f"<h2>What is left, layer by layer</h2>{picture}<p>{escape(READING)}</p>" if picture else ""


def _behind(report: Report) -> str:
    """Return parts of the test set and the answers that changed, where the report knows them."""
    table = parts(report)
    if table is None:
        return ""
    changed = "".join(
        f"<details><summary>{escape(scored.name)} · {escape(scored.runtime)}: answers that are not the first's"
        f"</summary>{_table(flips(scored), 'texts')}</details>"
        for scored in report.accuracy
        if scored.quality and scored.quality.flips
    )
    return f"<h2>Parts of the test set</h2>{_table(table)}<p>{escape(READING_PARTS)}</p>{changed}"


def _models(report: Report) -> str:
    names = list(dict.fromkeys(row.name for row in report.rows))
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} models"


def _figure(plot: Plot) -> str:
    drawing = plot.svg.replace("<svg", f'<svg aria-label="{escape(plot.title)}"', 1)
    return f"<figure><figcaption>{plot.title}<span>{plot.caption}</span></figcaption>{drawing}</figure>"


def _table(table: Table, kind: str = "") -> str:
    def cell(tag: str, column: int, text: str) -> str:
        names = ["text"] if column < table.text_columns else []
        names += ["unshown"] if text.endswith("n.s.") or text.startswith("≈1") else []
        attribute = f' class="{" ".join(names)}"' if names else ""
        return f"<{tag}{attribute}>{escape(text)}</{tag}>"

    def line(tag: str, cells: list[str]) -> str:
        return f"<tr>{''.join(cell(tag, column, text) for column, text in enumerate(cells))}</tr>"

    head = f"<thead>{line('th', table.head)}</thead>"
    body = "".join(line("td", row) for row in table.rows)
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'
