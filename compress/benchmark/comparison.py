"""Whether a bench came out worse than an earlier one, beyond its noise: the judgement of `compare`.

Times are compared as ratios within each bench, every model's against the first one's, never as milliseconds: another
machine, or the same on a busier day, slows both. So what slows all models alike, the first included, is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, Field

from compress.benchmark.evidence import Evidence, unpacked
from compress.benchmark.report import Accuracy, Difference, Report, Row
from compress.benchmark.shapes import TEXTS, Shape
from compress.benchmark.statistics import Interval, holm, ratio_of_ratios
from compress.benchmark.tables import shape_of
from compress.errors import InputError
from compress.tasks import in_percent

_SMALLER = 0.99  # of its size, from which on a file counts as smaller
LEVEL = 0.05  # chance of a false alarm anywhere among the times, and among the metrics
Verdict = Literal["worse", "better", "same", "unclear"]
Key = tuple[str, str, str, int, int, int]


class Limits(BaseModel, frozen=True, extra="forbid"):
    """How much worse something may get.

    Attributes:
        slower: share by which a call may take longer, beside the first model's.
        drop: points of the main metric; hundredths of a correlation.
        larger: share by which files may grow.
    """

    slower: float = Field(0.1, ge=0)
    drop: float = Field(0.5, ge=0)
    larger: float = Field(0.1, ge=0)


@dataclass(frozen=True)
class Change:
    """What became of one number.

    Attributes:
        what: `time` (speed-up over the first model), `metric` or `size`.
        name, runtime: the entry.
        shape: batch × tokens of a time, the metric's name, or "".
        baseline, current: the number then and now.
        value: how many times as slow or as large; or points lost, as a difference.
        ci95: of `value`; None where it is exact, or no bench gave an interval.
        verdict: `worse` and `better` are shown by a test that allows for all comparisons; `worse` also passes the
            limit; `unclear` passes it, or might, and is not shown.
        needed: how many times as many rounds (or examples) would show a change as large as the limit, if `unclear`.
    """

    what: Literal["time", "metric", "size"]
    name: str
    runtime: str
    shape: str
    baseline: float
    current: float
    value: float
    ci95: Interval | None
    verdict: Verdict
    needed: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All changes, and what could not be compared or must be known."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def worse(self) -> tuple[Change, ...]:
        """Return the changes that fail the gate."""
        return tuple(change for change in self.changes if change.verdict == "worse")


def compare(baseline: Report, current: Report, limits: Limits) -> Comparison:
    """Hold two benches against each other, row by row.

    Raises:
        InputError: their first models differ, which all ratios are against, or no row is in both.
    """
    before, now = ({_key(row): row for row in report.rows} for report in (baseline, current))
    shared = [key for key in before if key in now]
    if not shared:
        raise InputError(
            "the two reports have no row in common",
            place="compare",
            remedy="Bench the same models in the same runtimes, shapes, threads and device.",
        )
    first, other = ((report.rows[0].name, report.rows[0].runtime) for report in (baseline, current))
    if first != other:
        raise InputError(
            f"times are against {' in '.join(first)} in the baseline, against {' in '.join(other)} now",
            place="compare",
            remedy="Bench the models in the same order: the first is what all are compared with.",
        )
    pairs = [(before[key], now[key]) for key in shared if (key[0], key[1]) != first]
    entries = list(dict.fromkeys(key[:2] for key in shared))
    warnings = list(_warnings(baseline, current, before, now))
    if _texts(baseline) != _texts(current) and any(shape_of(row) == TEXTS for row, _ in pairs):
        warnings.append("times on texts are not compared: the texts are not known to be the same")
        pairs = [pair for pair in pairs if shape_of(pair[0]) != TEXTS]
    changes = [
        *_times(pairs, limits.slower),
        *_metrics(baseline, current, entries, limits.drop, warnings),
        *_sizes({key[:2]: (before[key], now[key]) for key in shared}, limits.larger),
    ]
    return Comparison(tuple(changes), tuple(warnings))


def _texts(report: Report) -> tuple[str | None, int, int]:
    """Return what decides which texts of a test set were timed."""
    return report.test, report.config.texts, report.seed


def _key(row: Row) -> Key:
    return row.name, row.runtime, row.device, row.threads, row.batch_size, row.sequence_length


def _warnings(
    baseline: Report, current: Report, before: dict[Key, Row], now: dict[Key, Row]
) -> Iterator[str]:
    for name in baseline.machine.keys() & current.machine.keys():
        then, today = baseline.machine[name], current.machine[name]
        if then != today:
            yield f"another {name.replace('_', ' ')}: {_shown(then)}, now {_shown(today)}"
    for what, some, others in (("the baseline", before, now), ("the current report", now, before)):
        alone = sorted(
            {f"{key[0]} ({key[1]}) {Shape(key[4], key[5])}" for key in some.keys() - others.keys()}
        )
        if alone:
            yield f"only in {what}: {', '.join(alone)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _times(pairs: Sequence[tuple[Row, Row]], limit: float) -> Iterator[Change]:
    """Yield how many times as slow each row became beside the first model's row of the same shape."""
    found = []
    for then, today in pairs:
        a, b = then.speedup_vs_first, today.speedup_vs_first
        if a is None or b is None:  # the first model has no positions for this shape
            continue
        measured = None
        if a.ci95 is not None and b.ci95 is not None:
            measured = ratio_of_ratios((a.value, a.ci95), (b.value, b.ci95))
        found.append((then, a.value, b.value, measured))
    slower = iter(holm([measured[2] for *_, measured in found if measured]))
    faster = iter(holm([1 - measured[2] for *_, measured in found if measured]))
    for then, a_value, b_value, measured in found:
        value, interval, needed = a_value / b_value, None, None
        verdict: Verdict = "unclear"
        if measured is not None:
            interval = measured[1]
            shown_slower, shown_faster = next(slower) < LEVEL, next(faster) < LEVEL
            verdict = _verdict(value - 1, interval[1] - 1, limit, shown_slower, shown_faster)
            if verdict == "unclear":
                needed = _more(interval[1] / value - 1, limit)
        shape = str(shape_of(then))
        yield Change(
            "time", then.name, then.runtime, shape, a_value, b_value, value, interval, verdict, needed
        )


def _metrics(
    baseline: Report,
    current: Report,
    entries: Sequence[tuple[str, str]],
    limit: float,
    warnings: list[str],
) -> Iterator[Change]:
    """Yield how many points each entry's metric lost, by a paired test where the test set is the same."""
    before, now = ({(a.name, a.runtime): a for a in report.accuracy} for report in (baseline, current))
    shared = [entry for entry in entries if entry in before and entry in now]
    if shared and (baseline.test is None or baseline.test != current.test):
        warnings.append("metrics are not compared: the test sets are not known to be the same")
        return
    found: list[tuple[Accuracy, Accuracy, Difference]] = []
    for entry in shared:
        then, today = before[entry], now[entry]
        if then.metric.name != today.metric.name:
            warnings.append(f"{' in '.join(entry)}: {then.metric.name} then, {today.metric.name} now")
            continue
        evidence, earlier = _evidence(today), _evidence(then)
        found.append((then, today, evidence.difference(earlier, current.seed)))
    adjusted = holm([difference.p_value for *_, difference in found])
    for (then, today, difference), p_value in zip(found, adjusted, strict=True):
        points = 1 if in_percent(then.metric.name) else 100
        lost, interval = -points * difference.value, tuple(-points * end for end in difference.ci95[::-1])
        shown = difference.differs and p_value < LEVEL
        verdict = _verdict(lost, interval[1], limit, shown and lost > 0, shown and lost < 0)
        yield Change(
            "metric",
            then.name,
            then.runtime,
            then.metric.name,
            then.metric.value,
            today.metric.value,
            lost,
            (interval[0], interval[1]),
            verdict,
            _more(interval[1] - lost, limit) if verdict == "unclear" else None,
        )


def _evidence(scored: Accuracy) -> Evidence:
    try:
        if scored.answers is not None and len((found := unpacked(scored.answers)).rows) == scored.examples:
            return found
    except ValueError:  # said below
        pass
    raise InputError(
        f"the report does not hold the {scored.examples:,} answers behind its {scored.metric.name}",
        place=f"compare: {scored.name} in {scored.runtime}",
        remedy="Bench again; a report is not to be edited",
    )


def _sizes(pairs: dict[tuple[str, ...], tuple[Row, Row]], limit: float) -> Iterator[Change]:
    """Yield how many times as large each entry's files became."""
    for (name, runtime), (then, today) in pairs.items():
        value = today.size_mb / then.size_mb
        verdict: Verdict = "worse" if value > 1 + limit else "better" if value < _SMALLER else "same"
        yield Change("size", name, runtime, "", then.size_mb, today.size_mb, value, None, verdict)


def _verdict(change: float, highest: float, limit: float, shown_worse: bool, shown_better: bool) -> Verdict:
    """Judge a change (above 0: for the worse) by its size, the upper end of its interval, and its test."""
    if shown_worse and change > limit:
        return "worse"
    if shown_better:
        return "better"
    return "unclear" if highest > limit and not shown_worse else "same"


def _more(half: float, limit: float) -> float | None:
    """Return how many times as much must be measured until half the interval is the limit's; it shrinks by √n."""
    return max(1.0, (half / limit) ** 2) if limit > 0 else None
