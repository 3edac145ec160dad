"""The record of a bench: what `report.json` holds.

Units: milliseconds, seconds, MB of 10⁶ bytes, percent for accuracy and agreement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from compress.benchmark.config import BenchConfig, Noise, Runtime
from compress.errors import InputError, first_line

NAME = "report.json"


class Latency(BaseModel, frozen=True, extra="forbid"):
    """Percentiles of the time of one call, in milliseconds, over the runs of all rounds."""

    p50: float
    p95: float
    p99: float


class Metric(BaseModel, frozen=True, extra="forbid"):
    """A task's main metric with its 95% interval.

    Accuracy has Wilson's score interval; Spearman's correlation a percentile bootstrap over examples
    (`compress.benchmark.statistics`).
    """

    name: str
    value: float
    ci95: tuple[float, float]


class Ratio(BaseModel, frozen=True, extra="forbid"):
    """A ratio of median times with its 95% interval over rounds; no interval below five rounds."""

    value: float
    ci95: tuple[float, float] | None

    @property
    def differs(self) -> bool:
        """Whether the interval shows that the ratio is not 1."""
        return self.ci95 is not None and not self.ci95[0] <= 1 <= self.ci95[1]


class Difference(BaseModel, frozen=True, extra="forbid"):
    """A model's main metric minus the first's, on the same examples.

    `test` names what gave the p-value: McNemar's exact test with Agresti & Min's interval for accuracy, a
    paired bootstrap for correlations and F1.
    """

    value: float
    ci95: tuple[float, float]
    p_value: float
    test: str

    @property
    def differs(self) -> bool:
        """Whether both the test at 5% and the interval show a difference."""
        return self.p_value < 0.05 and not self.ci95[0] <= 0 <= self.ci95[1]


class Answers(BaseModel, frozen=True, extra="forbid"):
    """What a metric was computed from, example by example (`compress.benchmark.evidence`).

    Attributes:
        form: what the two numbers of an example are.
        rows: (examples, 2) little-endian float32, compressed by zlib, in base64.
    """

    form: Literal["classes", "numbers", "counts"]
    rows: str


class Slice(BaseModel, frozen=True, extra="forbid"):
    """How a part of the test set is answered.

    Attributes:
        by: what makes the part: `label`, `words` (number of them in the input), or a column of the data.
        value: the label, or a range of numbers.
        examples: how many there are.
        metric: the main metric on them; for a class, the share of it that is found.
        lost, won: examples that only the first entry, or only this one, answers right; None where nothing is
            simply right.
        difference_with_first: as for the whole; None for the first itself.
    """

    by: str
    value: str
    examples: int
    metric: Metric
    lost: int | None
    won: int | None
    difference_with_first: Difference | None


class Flip(BaseModel, frozen=True, extra="forbid"):
    """An example that this entry answers otherwise than the first.

    Attributes:
        text: the input, cut to 300 characters; both texts of a pair.
        label: the truth.
        first, now: what the two say.
        before, after: the probability that each gives to what the first says.
    """

    text: str
    label: str
    first: str
    now: str
    before: float
    after: float


class Bin(BaseModel, frozen=True, extra="forbid"):
    """Answers that a classifier is about equally sure of.

    Attributes:
        confidence: mean probability of what it says.
        accuracy: share that is right.
        examples: how many there are.
    """

    confidence: float
    accuracy: float
    examples: int


class Robustness(BaseModel, frozen=True, extra="forbid"):
    """The metric with noise in the texts.

    Attributes:
        noise: which.
        metric: with it.
        difference_with_clean: this entry's metric with noise minus without, on the same examples.
    """

    noise: Noise
    metric: Metric
    difference_with_clean: Difference


class Quality(BaseModel, frozen=True, extra="forbid"):
    """What stands behind a metric.

    Attributes:
        slices: parts of the test set of at least 20 examples.
        lost, won: as for a slice, of the whole test set.
        divergence: mean KL(first's probabilities ‖ this one's) in nats; None but for single-label classifiers, as are
            the next.
        calibration_error: expected calibration error in percent.
        calibration: what that is computed from, the least sure first.
        flips: examples answered otherwise than by the first: those that were right first, then by how far the
            probability fell; 20 at most.
        robustness: one for each kind of noise that was asked for.
    """

    slices: tuple[Slice, ...] = ()
    lost: int | None = None
    won: int | None = None
    divergence: float | None = None
    calibration_error: float | None = None
    calibration: tuple[Bin, ...] = ()
    flips: tuple[Flip, ...] = ()
    robustness: tuple[Robustness, ...] = ()


class Accuracy(BaseModel, frozen=True, extra="forbid"):
    """How one model file answers the test set in one runtime.

    Attributes:
        name, runtime: the entry.
        examples: number of test examples.
        metric: the main metric.
        metrics: all metrics of the task.
        agreement_with_first: percent of answers (classes, single labels, tags of words, spans) that are the first
            entry's; for regression and embeddings Pearson's correlation of the two models' answers, in [-1, 1].
        difference_with_first: the main metric against the first entry's; None for the first itself.
        answers: what the metric was computed from; None in reports of early versions, as is
        quality: what stands behind the metric.
    """

    name: str
    runtime: Runtime
    examples: int
    metric: Metric
    metrics: dict[str, float]
    agreement_with_first: float
    difference_with_first: Difference | None
    answers: Answers | None = None
    quality: Quality | None = None


class Row(BaseModel, frozen=True, extra="forbid"):
    """One model × runtime × batch size × sequence length.

    Attributes:
        name, runtime, device, threads: who ran, where.
        batch_size, sequence_length: shape of the input; full length, no padding. A length of 0: texts of the test
            set as they are, one a call.
        latency_ms: time of one call; of texts, percentiles of the means over all of them.
        throughput: examples a second, batch size over median latency.
        energy_mj: millijoules that the processors drew for one call; None where the machine does not tell.
        load_s: from the first import of the runtime to a model that can answer; files in the page cache.
        first_s: the same and the first answer, one to the first shape; None in reports of early versions.
        peak_rss_mb: highest resident memory of the runtime's process, from its start through all timed runs.
        size_mb: the files this runtime needs: weights, config, tokenizer.
        parameters: numbers in the safetensors weights: int8 codes count, their scales and index buffers do
            not, tied weights count once. The same for the ONNX file made of them; None without safetensors.
        metric: the main metric on the test set; None without test set or trained head.
        agreement_with_first: see `Accuracy`.
        speedup_vs_first: the first entry's median latency at this shape over this one's; None where the
            first has no row of this shape.
        smaller_vs_first: the first entry's size over this one's.
    """

    name: str
    runtime: Runtime
    device: Literal["cpu", "cuda"]
    threads: int
    batch_size: int
    sequence_length: int
    latency_ms: Latency
    throughput: float
    energy_mj: float | None = None
    load_s: float
    first_s: float | None = None
    peak_rss_mb: float
    size_mb: float
    parameters: int | None
    metric: Metric | None
    agreement_with_first: float | None
    speedup_vs_first: Ratio | None
    smaller_vs_first: float


class Load(BaseModel, frozen=True, extra="forbid"):
    """A model that several threads call at once, each with one example at a time.

    Attributes:
        name, runtime: the entry.
        callers: threads that call.
        sequence_length: tokens of the example.
        throughput: answers a second, all callers together; the median of rounds.
        p50_ms, p95_ms: percentiles of the time of one call.
    """

    name: str
    runtime: Runtime
    callers: int
    sequence_length: int
    throughput: float
    p50_ms: float
    p95_ms: float


class Layer(BaseModel, frozen=True, extra="forbid"):
    """One part of one layer.

    Attributes:
        kind: `attention` or `feed-forward`.
        units: heads (of keys and values), or neurons; None where the part has no such.
        parameters: numbers in it.
        bits: of a number, on average.
    """

    kind: Literal["attention", "feed-forward"]
    units: int | None
    parameters: int
    bits: float


class Model(BaseModel, frozen=True, extra="forbid"):
    """What a model is made of.

    Attributes:
        name: the entries'.
        bytes: of weights by part: embeddings, attention, feed-forward, head and other.
        layers: each layer's parts.
        attended: inputs of the attentions' output projections, all layers together: what each token's query and each
            value it attends to is wide.
        steps: the passes that made it, first to last: a pass's name and what decided its input.
    """

    name: str
    bytes: dict[str, int]
    layers: tuple[tuple[Layer, ...], ...]
    attended: int
    steps: tuple[tuple[str, str], ...]

    def multiply_adds(self, tokens: int) -> int:
        """Return the multiply-adds of the layers for one text: every weight once a token, and attention's products."""
        weights = sum(part.parameters for layer in self.layers for part in layer)
        return tokens * weights + 2 * tokens * tokens * self.attended


class Report(BaseModel, frozen=True, extra="forbid"):
    """A whole bench. `rows` are in the order of entries, the first entry being the reference.

    Attributes:
        format: version of this schema.
        created: UTC time in ISO 8601.
        seed: of inputs, order and resampling.
        config: what was asked.
        machine: `compress.hardware.fingerprint()`.
        rows: latency, memory and size.
        accuracy: one an entry whose model has a trained head, where a test set was given.
        notes: what the reader must know: rows left out, files made for the bench, rounds cut short.
        load: throughput under several callers, where it was asked for.
        models: what they are made of, one a model with safetensors weights.
        test: hash of the test set's texts and labels; None without one, and in reports of early versions.
    """

    format: Literal[1] = 1
    created: str
    seed: int
    config: BenchConfig
    machine: dict[str, Any]
    rows: tuple[Row, ...]
    accuracy: tuple[Accuracy, ...] = ()
    notes: tuple[str, ...] = ()
    load: tuple[Load, ...] = ()
    models: tuple[Model, ...] = ()
    test: str | None = None


def read_report(path: Path) -> Report:
    """Read a `report.json`.

    Raises:
        InputError: there is none, or it is not a report.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        cause = error.strerror if isinstance(error, OSError) else first_line(error)
        raise InputError(
            f"cannot be read as a bench's report ({cause})",
            place=str(path),
            remedy="Give the report.json that compress bench wrote.",
        ) from error
