"""What stands behind a metric: parts of the test set, calibration, and the answers that changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.benchmark.evidence import Evidence
from compress.benchmark.report import Bin, Flip, Metric, Quality, Slice
from compress.benchmark.statistics import Floats
from compress.data.rows import SLICE

if TYPE_CHECKING:
    import datasets

_FEWEST = 20  # examples of a slice
_BINS = 15
_FLIPS, _CHARACTERS = 20, 300
_VALUES = 12  # of a column, beyond which numbers are taken by thirds and rare values left out
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Readable:
    """The test set as people read it.

    Attributes:
        texts: of each example, both texts of a pair as one.
        labels: class names; empty where there are none.
        slices: columns to part the examples by, by name.
    """

    texts: Sequence[str]
    labels: tuple[str, ...]
    slices: Mapping[str, Sequence[str]] = field(default_factory=dict)


def slice_columns(test: datasets.Dataset) -> dict[str, str]:
    """Return the columns of a test set that part it, by what they are called where they come from."""
    return {name.removeprefix(SLICE): name for name in test.column_names if name.startswith(SLICE)}


def quality(
    test: Readable,
    metric: str,
    evidence: Evidence,
    first: Evidence,
    logits: tuple[Floats, Floats] | None,
    seed: int,
) -> Quality:
    """Look behind an entry's metric.

    Args:
        test: the examples.
        metric: name of the main metric.
        evidence: of this entry.
        first: of the first entry; the same object for the first itself.
        logits: of this entry and of the first, (examples, classes) each; None but for single-label classifiers.
        seed: of the bootstrap.
    """
    slices = tuple(
        _slice(by, value, which, metric, evidence, first, seed)
        for by, value, which in _parts(test, evidence)
        if which.sum() >= _FEWEST
    )
    if logits is None:
        return Quality(slices=slices)
    ours, theirs = (_probabilities(each) for each in logits)
    bins, error = calibration(ours, evidence.right())
    flips = () if evidence is first else tuple(_flips(test, evidence, first, ours, theirs))
    lost, won = _lost_and_won(evidence, first)
    return Quality(
        slices=slices,
        lost=lost,
        won=won,
        divergence=divergence(theirs, ours),
        calibration_error=error,
        calibration=bins,
        flips=flips,
    )


def divergence(first: Floats, other: Floats) -> float:
    """Return the mean over examples of KL(first ‖ other) = Σ p ln(p / q), in nats.

    Args:
        first: (examples, classes) probabilities.
        other: the same.
    """
    tiny = np.finfo(np.float64).tiny
    return float((first * (np.log(first + tiny) - np.log(other + tiny))).sum(-1).mean())


def calibration(probabilities: Floats, right: Mask) -> tuple[tuple[Bin, ...], float]:
    """Return the bins of confidence and the expected calibration error in percent.

    15 bins of equal width; the error is Σ (examples in the bin / all) |accuracy - confidence|. Guo et al., ICML 2017,
    section 2.

    Args:
        probabilities: (examples, classes).
        right: (examples,) which answers are.
    """
    confidence = probabilities.max(-1)
    # The lowest confidence is 1 / classes; bin i holds (i / 15, (i + 1) / 15].
    places = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    bins = tuple(
        Bin(
            confidence=float(confidence[places == place].mean()),
            accuracy=float(right[places == place].mean()),
            examples=int((places == place).sum()),
        )
        for place in np.unique(places)
    )
    error = sum(each.examples * abs(each.accuracy - each.confidence) for each in bins) / len(right)
    return bins, 100 * error


def _parts(test: Readable, evidence: Evidence) -> Iterator[tuple[str, str, Mask]]:
    """Yield what to slice by, the part's name and which examples it has.

    Parts are classes, thirds by length, and what each further column holds: thirds of many numbers, else its most
    frequent values.
    """
    if evidence.form == "classes":
        for number, label in enumerate(test.labels):
            yield "label", label, evidence.rows[:, 1] == number
    words = np.array([len(text.split()) for text in test.texts])
    low, high = (int(np.quantile(words, share)) for share in (1 / 3, 2 / 3))
    for value, which in (
        (f"up to {low}", words <= low),
        (f"{low + 1} to {high}" if low + 1 < high else f"{high}", (words > low) & (words <= high)),
        (f"over {high}", words > high),
    ):
        yield "words", value, which
    for by, values in test.slices.items():
        for value, which in _values(values):
            yield by, value, which


def _values(values: Sequence[str]) -> Iterator[tuple[str, Mask]]:
    held = np.asarray(values, dtype=np.str_)
    counts = Counter(values)
    numbers = _as_numbers(values) if len(counts) > _VALUES else None
    if numbers is None:
        for value, _ in sorted(counts.most_common(_VALUES)):
            yield value or "(empty)", held == value
        return
    low, high = np.nanquantile(numbers, [1 / 3, 2 / 3])
    yield f"up to {low:g}", numbers <= low
    yield f"{low:g} to {high:g}", (numbers > low) & (numbers <= high)
    yield f"over {high:g}", numbers > high


def _as_numbers(values: Sequence[str]) -> Floats | None:
    """Return the values as numbers, NaN where one is empty; None where any is something else."""
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None


def _slice(
    by: str, value: str, which: Mask, metric: str, evidence: Evidence, first: Evidence, seed: int
) -> Slice:
    ours, theirs = evidence.part(which), first.part(which)
    lost, won = _lost_and_won(ours, theirs) if ours.form == "classes" else (None, None)
    return Slice(
        by=by,
        value=value,
        examples=int(which.sum()),
        metric=Metric(name=metric, value=ours.metric(), ci95=ours.interval(seed)),
        lost=lost,
        won=won,
        difference_with_first=None if evidence is first else ours.difference(theirs, seed),
    )


def _lost_and_won(ours: Evidence, first: Evidence) -> tuple[int, int]:
    right, before = ours.right(), first.right()
    return int((before & ~right).sum()), int((right & ~before).sum())


def _probabilities(logits: Floats) -> Floats:
    from scipy.special import softmax

    probabilities: Floats = softmax(logits.astype(np.float64), axis=-1)
    return probabilities


def _flips(
    test: Readable, evidence: Evidence, first: Evidence, ours: Floats, theirs: Floats
) -> Iterator[Flip]:
    """Yield the answers that changed: those that were right first, then by how far the probability fell."""
    now, then = evidence.rows[:, 0].astype(int), first.rows[:, 0].astype(int)
    truth = evidence.rows[:, 1].astype(int)
    changed = np.flatnonzero(now != then)
    fell = theirs[changed, then[changed]] - ours[changed, then[changed]]
    order = np.lexsort((-fell, then[changed] != truth[changed]))
    for index in changed[order][:_FLIPS]:
        text = test.texts[index]
        yield Flip(
            text=text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…",
            label=test.labels[truth[index]],
            first=test.labels[then[index]],
            now=test.labels[now[index]],
            before=float(theirs[index, then[index]]),
            after=float(ours[index, then[index]]),
        )
