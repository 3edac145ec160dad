"""Two benches against each other: noise passes, what is worse does not, on simulated times with a known truth."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_reports import report, row

from compress.benchmark.comparison import Limits, compare
from compress.benchmark.comparison_table import to_markdown
from compress.benchmark.evidence import Evidence, unpacked
from compress.benchmark.report import Accuracy, Metric, Ratio
from compress.benchmark.statistics import holm, paired_ratio, ratio_of_ratios
from compress.errors import InputError

LIMITS = Limits()


def timed(*speedups, machine=None, **fields):
    """A report whose first model has as many rows as there are others."""
    rows = [row("teacher")]
    for number, speedup in enumerate(speedups):
        value, low, high = speedup
        rows.append(row(f"m{number}", speedup=Ratio(value=value, ci95=(low, high) if low else None)))
    made = report(*rows, **fields)
    return made.model_copy(update={"machine": machine}) if machine else made


def scored(right, seed=0, form="classes", test="t"):
    right = np.asarray(right, np.float64)
    rows = np.stack([right, np.ones_like(right)], -1) if right.ndim == 1 else right
    evidence = Evidence(form, rows)
    name = "spearman" if form == "numbers" else "accuracy"
    metric = Metric(name=name, value=0, ci95=evidence.interval(seed))
    accuracy = Accuracy(
        name="teacher",
        runtime="torch",
        examples=len(rows),
        metric=metric,
        metrics={},
        agreement_with_first=100,
        difference_with_first=None,
        answers=evidence.packed(),
    )
    return report(row("teacher"), accuracy=(accuracy,), test=test)


def verdicts(before, now, limits=LIMITS, what="time"):
    return [change.verdict for change in compare(before, now, limits).changes if change.what == what]


def test_ratio_of_ratios_adds_the_distances_in_squares():
    e = np.e
    value, (low, high), p_value = ratio_of_ratios((e**0.3, (e**0.0, e**0.7)), (e**0.1, (e**-0.3, e**0.4)))
    assert np.log([value, low, high]) == pytest.approx(
        [0.2, 0.2 - np.hypot(0.3, 0.3), 0.2 + np.hypot(0.4, 0.4)]
    )
    assert p_value == pytest.approx(0.5 * (1 - 0.6441), abs=1e-3)  # z = 1.95996 × 0.2 / 0.42426 = 0.92395
    assert ratio_of_ratios((2, (1, 3)), (2, (1, 3)))[2] == 0.5
    assert ratio_of_ratios((2, (2, 2)), (1, (1, 1)))[2] == 0  # exact times, exactly known


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_a_slowdown_that_is_shown_fails_and_noise_passes():
    base = timed((10, 9.8, 10.2))
    assert verdicts(base, timed((8, 7.8, 8.2))) == ["worse"]
    assert verdicts(base, timed((9.5, 9.4, 9.6))) == ["same"]  # shown, but within the limit
    assert verdicts(base, timed((8, 5, 12))) == ["unclear"]
    assert verdicts(base, timed((10, 9.8, 10.2))) == ["same"]
    assert verdicts(base, timed((12, 11.8, 12.2))) == ["better"]
    assert verdicts(base, timed((8, None, None))) == ["unclear"]  # too few rounds for an interval
    assert verdicts(base, timed((8, 7.8, 8.2)), Limits(slower=0.3)) == ["same"]


def test_what_is_needed_to_tell_grows_with_the_square_of_the_width():
    (change,) = (
        c for c in compare(timed((10, 10, 10)), timed((10, 8, 12.5)), LIMITS).changes if c.what == "time"
    )
    assert change.needed == pytest.approx((0.25 / 0.1) ** 2)


def test_many_rows_allow_for_each_other():
    one = timed((10, 10, 10)), timed((8.8, 7.9, 9.8))
    many = timed(*[(10, 10, 10)] * 20), timed((8.8, 7.9, 9.8), *[(10, 9.9, 10.1)] * 19)
    assert verdicts(*one) == ["worse"]
    assert verdicts(*many)[0] == "unclear"


def test_a_model_that_lost_points_fails_by_a_paired_test():
    right = np.ones(2000)
    lost = right.copy()
    lost[:30] = 0
    assert verdicts(scored(right), scored(lost), what="metric") == ["worse"]
    assert verdicts(scored(lost), scored(right), what="metric") == ["better"]
    assert verdicts(scored(lost), scored(lost), what="metric") == ["same"]
    noise = right.copy()
    noise[100:135] = 0  # 35 lost where 30 were: other examples, nothing shown, too coarse to tell
    assert verdicts(scored(lost), scored(noise), what="metric") == ["unclear"]
    few = right.copy()
    few[:8] = 0
    assert verdicts(scored(right), scored(few), what="metric") == ["same"]  # shown, 0.4 points


def test_a_correlation_loses_hundredths():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=500)
    before, now = (np.stack([truth + noise * rng.normal(size=500), truth], -1) for noise in (0.3, 1))
    found = compare(scored(before, form="numbers"), scored(now, form="numbers"), LIMITS)
    (change,) = (each for each in found.changes if each.what == "metric")
    assert change.verdict == "worse"
    assert 10 < change.value < 40  # points: 0.95 to about 0.7
    assert change.ci95[0] < change.value < change.ci95[1]


def test_metrics_on_other_test_sets_are_not_compared():
    found = compare(scored(np.ones(9)), scored(np.zeros(9), test="other"), LIMITS)
    assert [change.what for change in found.changes] == ["size"]
    assert any("test sets" in warning for warning in found.warnings)


def test_times_on_other_texts_are_not_compared():
    fast, slow = (Ratio(value=value, ci95=(value, value)) for value in (10, 5))
    rows = [[row("a", sequence_length=0), row("b", sequence_length=0, speedup=each)] for each in (fast, slow)]
    before, now, other = report(*rows[0], test="t"), report(*rows[1], test="t"), report(*rows[1], test="o")
    assert verdicts(before, now) == ["worse"]
    assert verdicts(before, other) == []
    assert any("times on texts" in warning for warning in compare(before, other, LIMITS).warnings)


def test_files_that_grew_fail():
    before, now = report(row("teacher", size_mb=10)), report(row("teacher", size_mb=11.5))
    assert verdicts(before, now, what="size") == ["worse"]
    assert verdicts(before, now, Limits(larger=0.2), what="size") == ["same"]
    assert verdicts(now, before, what="size") == ["better"]


def test_other_machines_and_missing_rows_are_warned_of():
    before = timed((10, 9, 11), (5, 4, 6), machine={"processor": "A", "versions": {"torch": "1"}})
    now = timed((10, 9, 11), machine={"processor": "B", "versions": {"torch": "2"}})
    warnings = "\n".join(compare(before, now, LIMITS).warnings)
    assert "another processor: A, now B" in warnings
    assert "another versions: torch 1, now torch 2" in warnings
    assert "only in the baseline: m1 (torch) 1×32" in warnings


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="no row in common"):
        compare(report(row("a")), report(row("b")), LIMITS)
    with pytest.raises(InputError, match="against a in torch in the baseline, against b in torch now"):
        compare(report(row("a"), row("b")), report(row("b"), row("a")), LIMITS)
    good = scored(np.ones(9))
    broken = good.accuracy[0].model_copy(
        update={"answers": good.accuracy[0].answers.model_copy(update={"rows": "AAAA"})}
    )
    with pytest.raises(InputError, match="does not hold the 9 answers behind its accuracy"):
        compare(good, good.model_copy(update={"accuracy": (broken,)}), LIMITS)


def test_evidence_survives_its_packing():
    rng = np.random.default_rng(0)
    evidence = Evidence("numbers", rng.normal(size=(40, 2)).astype(np.float32).astype(np.float64))
    assert np.array_equal(unpacked(evidence.packed()).rows, evidence.rows)


def simulated(rng, speedups, noise=0.04, rounds=20, runs=10):
    """A report of models timed in rounds: each round has noise of its own for each model, and each run some."""

    def times(milliseconds):
        shared = rng.lognormal(0, noise, (rounds, 1))
        return milliseconds * shared * rng.lognormal(0, noise, (rounds, runs))

    first = times(10)
    found = [paired_ratio(first, times(10 / speedup)) for speedup in speedups]
    return timed(*[(value, *interval) for value, interval in found])


def test_false_alarms_are_rare_and_a_fifth_is_caught():
    rng = np.random.default_rng(0)
    truth = (2, 3, 4)
    alarms = caught = 0
    for _ in range(60):
        before = simulated(rng, truth)
        alarms += bool(compare(before, simulated(rng, truth), LIMITS).worse)
        caught += [c.name for c in compare(before, simulated(rng, (2, 3, 4 / 1.2)), LIMITS).worse] == ["m2"]
    assert alarms <= 3
    assert caught >= 57


def run(*arguments):
    return subprocess.run(
        [sys.executable, "cli.py", "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )


def test_the_command_exits_1_on_worse_and_2_on_nonsense(tmp_path):
    before, same, slow = tmp_path / "before.json", tmp_path / "same.json", tmp_path / "slow.json"
    before.write_text(timed((10, 9.8, 10.2)).model_dump_json())
    same.write_text(timed((10.1, 9.8, 10.3)).model_dump_json())
    slow.write_text(timed((8, 7.8, 8.2)).model_dump_json())
    passed = run(before, same)
    assert passed.returncode == 0, passed.stderr
    assert "| m0" in passed.stdout
    failed = run(before, slow)
    assert failed.returncode == 1
    assert "worse than the baseline: m0 (torch) 1×32" in failed.stderr
    assert run(before, slow, "--max-latency-regression", "30%").returncode == 0
    assert json.loads(run(before, slow, "--json").stdout)["worse"] == 1
    for wrong, cause in (
        (("none.json",), "cannot be read"),
        ((slow, "--max-latency-regression", "a"), "not a share"),
    ):
        bad = run(before, *wrong)
        assert bad.returncode == 2
        assert cause in bad.stderr
        assert "Traceback" not in bad.stderr


def test_the_table_says_what_could_not_be_told():
    text = to_markdown(compare(timed((10, 9.8, 10.2)), timed((8, 5, 12)), LIMITS))
    assert "1 of 3 numbers were measured too coarsely to tell; about 36 times as many" in text
    assert "| time 1×32 | unclear |" in text
