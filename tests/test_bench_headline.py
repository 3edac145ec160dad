"""The headline's table: what is met, what is missed, and against whom."""

import pytest
from tiny_reports import report, row

from bench.headline.__main__ import HEAD, RECIPES, SHIPPED, TEACHER, Result, text_of
from compress.benchmark.report import Accuracy, Difference, Metric, Ratio


def scored(name, runtime, value, difference=None):
    metric = Metric(name="accuracy", value=value, ci95=(value - 1, value + 1))
    change = difference and Difference(
        value=difference, ci95=(difference - 0.5, difference + 0.5), p_value=0, test="t"
    )
    return Accuracy(
        name=name,
        runtime=runtime,
        examples=2000,
        metric=metric,
        metrics={"accuracy": value},
        agreement_with_first=99,
        difference_with_first=change,
    )


def line(speedup=32.0, smaller=31.0, lost=-0.9):
    texts = {"sequence_length": 0}
    found = report(
        row(TEACHER, p50=64, size_mb=438, **texts),
        row(TEACHER, p50=1),  # of another shape
        row(TEACHER, "onnxruntime", p50=48, **texts),
        row(
            SHIPPED,
            "onnxruntime",
            p50=2,
            speedup=Ratio(value=speedup, ci95=(speedup - 1, speedup + 1)),
            size_mb=14,
            smaller_vs_first=smaller,
            **texts,
        ),
        accuracy=(scored(TEACHER, "torch", 90.0), scored(SHIPPED, "onnxruntime", 90 + lost, lost)),
    )
    return dict(zip(HEAD, Result("movie-reviews", found).cells(), strict=True))


def test_the_line_holds_the_shipped_file_against_the_teacher_on_texts():
    cells = line()
    assert cells["kept"] == "99.0% [98.4, 99.6]"  # 89.1 of 90, ± 0.5 points
    assert cells["faster"] == "32.00× [31.00, 33.00]"
    assert cells["than it in ORT"] == "24.0×"
    assert cells["MB"] == "438 → 14.0"
    assert cells["aim"] == "met"


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"speedup": 29.9}, "misses speed"),
        ({"smaller": 29.9}, "misses size"),
        ({"lost": -0.91}, "misses accuracy"),
        ({"speedup": 20.0, "lost": -3.0}, "misses speed, misses accuracy"),
    ],
)
def test_what_is_missed_is_named(change, missed):
    assert line(**change)["aim"] == missed


def test_each_set_has_its_recipe():
    assert sorted(path.stem for path in RECIPES.glob("*.yaml")) == ["movie-reviews", "reuters-r8", "stsb"]


def test_sets_measured_on_two_machines_name_both():
    cells = list(line().values())
    lines = {
        data: {"cells": [data, *cells[1:]], "machine": machine}
        for data, machine in (("stsb", "new"), ("movie-reviews", "old"), ("reuters-r8", "old"))
    }
    text = text_of(lines)
    assert text.index("| movie-reviews") < text.index("| reuters-r8") < text.index("| stsb")
    assert text.endswith("\nmovie-reviews, reuters-r8: old\n\nstsb: new\n")
