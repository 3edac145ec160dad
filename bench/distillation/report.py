"""The table: each row's score, its spread over seeds, and its difference to labels alone with an interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from bench.distillation.record import Record
from bench.distillation.rows import ROWS, SETTINGS


def grouped(records: Sequence[Record]) -> Iterator[tuple[str, str, list[Record]]]:
    """Yield data, student and the rows that were measured of it, all in the suite's order."""
    for data, setting in SETTINGS.items():
        for student in setting.students:
            rows = {each.row: each for each in records if (each.data, each.student) == (data, student)}
            if rows:
                yield data, student, [rows[row] for row in ROWS if row in rows]


def table(records: Sequence[Record]) -> list[str]:
    """Return Markdown lines for all that was measured, and the machines."""
    lines = []
    for data, student, rows in grouped(records):
        setting = SETTINGS[data]
        by = setting.teachers[setting.students[student].teacher].model
        lines += ["", f"## {data}, {student}, taught by {by} ({_teacher_scores(rows, setting.metric)})", ""]
        lines.append(f"| row | {setting.metric} | spread | against labels alone (95%) | seeds |")
        lines.append("|---|---|---|---|---|")
        lines += [_line(row, setting.metric) for row in rows]
    return lines + _machines(records)


def _machines(records: Sequence[Record]) -> list[str]:
    """Return a paragraph for each machine with what was measured on it: groups, or some of their rows."""
    machines: dict[str, dict[str, list[str]]] = {}
    rows: Counter[str] = Counter()
    for record in records:
        group = f"{record.data}, {record.student}"
        machines.setdefault(record.machine, {}).setdefault(group, []).append(record.row)
        rows[group] += 1
    lines = []
    for machine, groups in machines.items():
        named = []
        for group, here in groups.items():
            titles = [f"“{ROWS[row].name}”" for row in ROWS if row in here]
            named.append(group if len(here) == rows[group] else f"{group} ({', '.join(titles)})")
        lines += ["", f"{'; '.join(named)}: {machine}"]
    return lines


def _line(record: Record, metric: str) -> str:
    scores = record.scores
    spread = f"± {_shown(float(np.std(scores, ddof=1)), metric)}" if len(scores) > 1 else ""
    apart = ""
    if record.against_labels is not None:
        gain, *ends = (_shown(each, metric, True) for each in record.against_labels)
        apart = f"{gain} [{', '.join(ends)}]"
    mean = _shown(float(np.mean(scores)), metric)
    return f"| {ROWS[record.row].title} | {mean} | {spread} | {apart} | {len(scores)} |"


def _teacher_scores(rows: Sequence[Record], metric: str) -> str:
    """Return the teacher's score; all of them where it was fine-tuned on more than one machine."""
    return ", ".join(dict.fromkeys(_shown(row.teacher_score, metric) for row in rows))


def _shown(value: float, metric: str, signed: bool = False) -> str:
    digits = 2 if metric == "accuracy" else 4
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
