"""What a search decides, without any model: limits, structures, the shortlist, halving, the winner."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from compress.benchmark.report import Difference
from compress.commands.search import seconds_of
from compress.errors import InputError
from compress.search.halving import LONG, SHORT, Job, Result, cut_of, finalists, wanted
from compress.search.limits import Limits, Measured, shortfalls
from compress.search.proof import Candidate, choose, pareto
from compress.search.shortlist import shortlisted
from compress.search.space import Structure, changes, largest, single_changes, structures
from compress.search.table import Form, Part, Table, _stored
from compress.search.work import distance_of
from compress.tasks import Task

WHOLE = Structure(layers=6, hidden=384, sparsity=0.0, keep=1.0, rows=30_000)


def table(**changed):
    """A reference of 60 ms; int8 takes 1 ms and 1 ms a layer, float32 twice as much, static half."""
    known = {name: (0.5, 0.5) for name in single_changes(WHOLE)}
    forms = (
        Form(variant="float32", runtime="onnxruntime", time=2, size=4),
        Form(variant="int8-dynamic", runtime="onnxruntime", time=1, size=1),
    )
    fields = {
        "key": "",
        "reference_ms": 60.0,
        "forms": forms,
        "milliseconds": Part(rest=1, layer=1),
        "megabytes": Part(rest=13, layer=2),
        "shares": known,
        "left_out": (),
        "seconds": 60.0,
    }
    return Table(**(fields | changed))


def test_limits_ask_for_something():
    with pytest.raises(ValidationError, match="--min-speedup"):
        Limits(max_drop=1)


def test_shortfalls_name_each_limit_that_is_missed():
    limits = Limits(max_drop=1, min_speedup=10, max_latency_ms=2, max_size_mb=5)

    assert shortfalls(Measured(10, 2, 5, 1.0), limits) == {}
    missed = shortfalls(Measured(5, 4, 6, 3.0), limits)
    assert list(missed) == [
        "5.0× of 10×",
        "4.00 ms of 2 ms",
        "6.0 MB of 5 MB",
        "3.00 points lost of 1",
    ]
    assert missed["5.0× of 10×"] == pytest.approx(math.log(2))


def test_an_estimate_may_miss_by_the_slack():
    limits = Limits(min_speedup=10)

    assert shortfalls(Measured(9.6, 1, 1), limits, slack=0.05) == {}
    assert shortfalls(Measured(9.4, 1, 1), limits, slack=0.05)


def test_estimate_by_hand():
    structure = Structure(3, 192, 0.3, 1.0, 12_000)
    shares = {"width 192": (0.5, 0.25), "30% pruned": (0.8, 0.7)}

    found = table(shares=shares).estimate(structure, WHOLE, table().forms[1])

    assert found.latency_ms == pytest.approx(1 + 3 * 0.4)
    assert found.speedup == pytest.approx(60 / 2.2)
    table_mb = (30_000 * 384 - 12_000 * 192) / 1e6
    assert found.size_mb == pytest.approx(13 - table_mb + 3 * 2 * 0.175)
    assert table(shares={}).estimate(structure, WHOLE, table().forms[1]) is None


def test_a_corrected_table_expects_what_was_measured():
    slow = replace(candidate(90, 8), variant="float32")  # 8 × 0.95 by the interval's lower end, 7.5 ms
    known = slow.corrected(table(), WHOLE).estimate(WHOLE, WHOLE, table().forms[0])
    assert (known.speedup, known.latency_ms) == pytest.approx((7.6, 7.5))


def test_a_table_that_was_cut_short_is_measured_anew(tmp_path):
    file = tmp_path / "table.json"
    assert _stored(file) is None
    file.write_text(table().model_dump_json())
    assert _stored(file) == table()
    file.write_text(table().model_dump_json()[:-40])
    assert _stored(file) is None


def test_every_structure_is_made_of_changes_that_are_timed():
    found = structures(WHOLE, fewer_rows=True)

    assert WHOLE in found
    assert len(set(found)) == len(found)
    assert {name for each in found for name in changes(each, WHOLE)} == set(single_changes(WHOLE))
    assert {each.rows for each in structures(WHOLE, fewer_rows=False)} == {30_000}


def test_passes_leave_the_whole_alone_and_differ_only_where_asked():
    assert WHOLE.passes(WHOLE) == []
    narrow = Structure(3, 192, 0.3, 1.0, 12_000)
    assert [each.name for each in narrow.passes(WHOLE)] == ["vocabulary", "prune"]
    assert [each.name for each in narrow.passes(WHOLE, trained=False)] == ["prune"]
    assert [each.name for each in replace(WHOLE, keep=0.6).passes(WHOLE)] == ["factorize"]


def test_largest_drops_what_another_has_as_much_as():
    deep, wide = replace(WHOLE, sparsity=0.6), replace(WHOLE, layers=3)
    assert set(largest([deep, wide, replace(wide, sparsity=0.3), replace(deep, layers=2)])) == {deep, wide}


def test_shortlist_is_the_largest_within_the_limits():
    # 60 ms / 10.8 = 5.6 ms, of which a tenth is left for the interval: four whole layers, or more that take half.
    chosen = shortlisted(table(), WHOLE, Limits(min_speedup=10.8))

    assert replace(WHOLE, layers=4) in chosen.structures
    assert replace(WHOLE, sparsity=0.3) in chosen.structures
    assert all(
        not each.within(other) for each in chosen.structures for other in chosen.structures if each != other
    )
    assert all(sum(a.layers == b.layers for a in chosen.structures) <= 2 for b in chosen.structures)
    everything = len(structures(WHOLE, fewer_rows=False))
    assert len(chosen.structures) + chosen.smaller + chosen.beyond == everything


def test_rows_go_only_where_size_is_limited():
    small = shortlisted(table(), WHOLE, Limits(max_size_mb=10))
    assert all(each.rows < WHOLE.rows or each.layers < WHOLE.layers for each in small.structures)
    assert any(each.rows < WHOLE.rows for each in small.structures)


def test_the_nearest_structure_stands_alone_where_none_is_within():
    chosen = shortlisted(table(), WHOLE, Limits(min_speedup=1000))

    assert len(chosen.structures) == 1
    assert chosen.structures[0].layers == 1
    with pytest.raises(InputError, match="no export"):
        shortlisted(table(forms=(), left_out=("int8: no export",)), WHOLE, Limits(min_speedup=2))


def run_all(shortlist, score, divergence=lambda each: 0.0, broken=()):
    """Do every job that is wanted, one after the other; return them in order and the results."""
    order, results = [], {}
    while jobs := wanted(shortlist, WHOLE, results):
        job = jobs[0]
        order.append(job)
        error = "broke" if job in broken else ""
        results[job] = Result(score(job), divergence(job.structure), 1.0, error)
    return order, results


SHORTLIST = [Structure(layers, 384, sparsity, 1.0, 30_000) for layers in (5, 4, 3) for sparsity in (0.3, 0.6)]


def test_halving_looks_at_all_trains_few_and_two_for_long():
    order, results = run_all(SHORTLIST, lambda job: job.structure.layers, lambda each: each.sparsity)

    rungs = [job.rung for job in order]
    assert rungs.count("cut") == 3
    assert rungs.count("shape") == 6
    assert (rungs.count("short"), rungs.count("long")) == (SHORT, LONG)
    assert rungs.index("short") > max(i for i, rung in enumerate(rungs) if rung == "shape")
    assert rungs.index("long") > max(i for i, rung in enumerate(rungs) if rung == "short")
    # The least divergence is trained: all with 0.3 and one more; of those the deepest, which score best.
    assert [job.structure.layers for job in order if job.rung == "long"] == [5, 5]


def test_of_each_structure_its_best_rung_is_measured():
    gains = {"cut": 0, "shape": 0, "short": 1, "long": 2}
    _, results = run_all(SHORTLIST, lambda job: 10 * job.structure.layers + gains[job.rung])
    assert [(job.structure.layers, job.rung) for job in finalists(results, SHORTLIST)] == [
        (5, "long"),
        (5, "long"),
    ]

    harm = {"cut": 0, "shape": 0, "short": -1, "long": -2}
    _, results = run_all(SHORTLIST, lambda job: 10 * job.structure.layers + harm[job.rung])
    assert [(job.structure.layers, job.rung) for job in finalists(results, SHORTLIST)] == [
        (5, "shape"),
        (5, "shape"),
    ]


def test_halving_goes_on_where_a_job_failed():
    first = cut_of(SHORTLIST[0], WHOLE)
    order, results = run_all(SHORTLIST, lambda job: job.structure.layers, broken=[first])

    assert all(job.structure.layers < 5 for job in order if job != first)
    assert finalists(results, SHORTLIST)[0].structure.layers == 4
    assert finalists({job: Result(error="broke") for job in results}, SHORTLIST) == []


def candidate(score, speedup, megabytes=5.0, drop=0.0, change=None):
    return Candidate(
        job=Job(WHOLE, "long"),
        variant="int8-dynamic",
        form=(),
        runtime="onnxruntime",
        folder=None,
        score=score,
        measured=Measured(speedup * 0.95, 60 / speedup, megabytes, drop),
        speedup=(speedup, speedup * 0.95, speedup * 1.05),
        test=score,
        change=change or Difference(value=-drop, ci95=(-drop - 1, -drop + 1), p_value=0.5, test="t"),
    )


class Points:
    """What `choose` asks of a setting: the reference scores 90."""

    @staticmethod
    def drop(score):
        return 90.0 - score


def test_the_winner_answers_best_within_the_limits():
    slow, good, fast = candidate(90, 8), candidate(89.5, 11, drop=0.5), candidate(89, 20, drop=1)

    assert choose([slow, good, fast], Limits(min_speedup=10), Points) is good
    # The lower end of the interval has to reach the limit: 11 × 0.95 does not reach 10.5.
    assert choose([slow, good, fast], Limits(min_speedup=10.5), Points) is fast


def test_of_those_alike_the_fastest_wins():
    better, faster = candidate(89.52, 11, drop=0.48), candidate(89.5, 14, drop=0.5)
    assert choose([better, faster], Limits(min_speedup=10), Points) is faster


def test_the_nearest_wins_where_none_is_within():
    far, near = candidate(89.9, 2, drop=0.1), candidate(88.5, 11, drop=1.5)
    assert choose([far, near], Limits(max_drop=1, min_speedup=10), Points) is near


def test_pareto_leaves_out_what_is_beaten_in_everything():
    good, fast, worse = candidate(90, 5), candidate(88, 20), candidate(89, 4, megabytes=6)
    assert pareto([good, fast, worse]) == [fast, good]


def test_distance_of_answers_by_kind():
    labels = ("a", "b")
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    even = torch.zeros(2, 2)
    p = 1 / (1 + math.exp(-2))
    kl = (math.log(0.5) - (math.log(p) + math.log(1 - p)) / 2) / 2  # of the first row; the second has none
    assert distance_of(Task(kind="classification", labels=labels), logits, even) == pytest.approx(kl)
    one = Task(kind="regression")
    assert distance_of(one, torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])) == pytest.approx(2.5)
    assert distance_of(Task(kind="tokens", labels=labels), logits, even[:1]) == math.inf


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("40m", 2400), ("1.5h", 5400)])
def test_times_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3m", "4 days", "m"])
def test_no_time_is_refused(text):
    with pytest.raises(InputError, match="--time-limit"):
        seconds_of(text)
