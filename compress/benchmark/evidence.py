"""What a metric was computed from, example by example, so that two results can be held against each other later."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.benchmark import statistics
from compress.benchmark.report import Answers, Difference
from compress.benchmark.statistics import Floats, Interval

Form = Literal["classes", "numbers", "counts"]


@dataclass(frozen=True)
class Evidence:
    """Two numbers an example, and what they are.

    Attributes:
        form: `classes`: the class answered and the true one, whose equality is accuracy; `numbers`: answer and
            target, whose rank correlation is the metric; `counts`: what was right and out of how much, whose sums'
            ratio is the metric.
        rows: (examples, 2) float64.
    """

    form: Form
    rows: Floats

    def part(self, which: NDArray[np.bool_]) -> Evidence:
        """Return the evidence of some examples."""
        return Evidence(self.form, self.rows[which])

    def metric(self) -> float:
        """Return the metric: percent, or a correlation."""
        if self.form == "classes":
            return 100 * float(self.right().mean())
        if self.form == "counts":
            return 100 * float(statistics.ratio(self.rows))
        return float(statistics.spearman(self.rows[:, 0], self.rows[:, 1]))

    def right(self) -> NDArray[np.bool_]:
        """Return (examples,) which classes are the true ones."""
        right: NDArray[np.bool_] = self.rows[:, 0] == self.rows[:, 1]
        return right

    def interval(self, seed: int) -> Interval:
        """Return the 95% interval of the metric: Wilson's for classes, else a bootstrap over examples."""
        if self.form == "classes":
            low, high = statistics.wilson_interval(int(self.right().sum()), len(self.rows))
            return 100 * low, 100 * high
        return statistics.percentile_interval(self._resampled(seed))

    def difference(self, first: Evidence, seed: int) -> Difference:
        """Return the metric minus another result's on the same examples, with a paired test.

        McNemar's exact test with Agresti & Min's interval for classes, a paired bootstrap otherwise.
        """
        if self.form == "classes":
            right, expected = self.right(), first.right()
            won, lost = int((right & ~expected).sum()), int((~right & expected).sum())
            low, high = statistics.paired_difference_interval(lost, won, len(right))
            return Difference(
                value=100 * (won - lost) / len(right),
                ci95=(100 * low, 100 * high),
                p_value=statistics.mcnemar_exact(lost, won),
                test="McNemar, exact",
            )
        apart = self._resampled(seed) - first._resampled(seed)
        return Difference(
            value=self.metric() - first.metric(),
            ci95=statistics.percentile_interval(apart),
            p_value=statistics.bootstrap_p_value(apart),
            test="paired bootstrap",
        )

    def _resampled(self, seed: int) -> Floats:
        if self.form == "counts":
            return 100 * statistics.ratio_resamples(self.rows, seed)
        return statistics.spearman_resamples(self.rows[:, 0], self.rows[:, 1], seed)

    def packed(self) -> Answers:
        """Return the evidence as a report keeps it."""
        data = zlib.compress(self.rows.astype("<f4").tobytes(), 9)
        return Answers(form=self.form, rows=base64.b64encode(data).decode("ascii"))


def unpacked(answers: Answers) -> Evidence:
    """Return what `Evidence.packed` made, to float32 precision.

    Raises:
        ValueError: the text is not such rows.
    """
    try:
        values = np.frombuffer(zlib.decompress(base64.b64decode(answers.rows, validate=True)), "<f4")
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return Evidence(answers.form, values.reshape(-1, 2).astype(np.float64))
