"""What each pass bought and cost, of models that were made of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compress.benchmark.evidence import unpacked
from compress.benchmark.report import Difference, Model, Report, Row
from compress.benchmark.tables import Table, accuracy_of, difference_text, entry_rows, shape_name, shape_of


@dataclass(frozen=True)
class Effect:
    """One model and the benched one that it was made of.

    Attributes:
        passes: what was done in between.
        before, after: the first row of each, in the same runtime where both ran in it.
        change: of the metric, by a paired test; None where it is not known.
    """

    passes: str
    before: Row
    after: Row
    change: Difference | None

    @property
    def runtime(self) -> str:
        """Where it ran, or from where to where."""
        runtimes = dict.fromkeys((self.before.runtime, self.after.runtime))
        return " → ".join(runtimes)


def effects(report: Report) -> list[Effect]:
    """Return one effect for each entry that another benched model became by further passes, in the report's order."""
    models = {model.name: model for model in report.models}
    firsts = [rows[0] for rows in entry_rows(report)]
    found = []
    for row in firsts:
        origin = _before(models, row.name)
        if origin is None:
            continue
        alike = [r for r in firsts if r.name == origin.name and shape_of(r) == shape_of(row)]
        earlier = next((r for r in alike if r.runtime == row.runtime), alike[0] if alike else None)
        if earlier is None:
            continue
        now, then = accuracy_of(report, row), accuracy_of(report, earlier)
        change = None
        if now and then and now.answers and then.answers:
            change = unpacked(now.answers).difference(unpacked(then.answers), report.seed)
        passes = " + ".join(name for name, _ in models[row.name].steps[len(origin.steps) :])
        found.append(Effect(passes, earlier, row, change))
    return found


def steps(report: Report) -> Table | None:
    """Return the effects as a table, time and size against the model before; None where there are none."""
    found = effects(report)
    if not found:
        return None
    scored = report.accuracy[0].metric.name if report.accuracy else "metric"
    lines = [
        [
            each.passes,
            f"{each.before.name} → {each.after.name}",
            each.runtime,
            f"{each.after.latency_ms.p50 / each.before.latency_ms.p50:.2f}×",
            f"{each.after.size_mb / each.before.size_mb:.2f}×",
            difference_text(each.change, scored),
        ]
        for each in found
    ]
    head = ["pass", "model", "runtime", f"ms {shape_name(report.rows[0])}", "MB", scored]
    return Table(head, lines, 3)


def _before(models: Mapping[str, Model], name: str) -> Model | None:
    """Return the benched model that this one was made of by the fewest passes."""
    if name not in models:
        return None
    own = models[name].steps
    origins = [
        m for m in models.values() if len(m.steps) < len(own) and own[: len(m.steps)] == m.steps and m.steps
    ]
    return max(origins, key=lambda model: len(model.steps), default=None)
