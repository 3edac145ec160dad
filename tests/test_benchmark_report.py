"""Tables claim no more than their intervals show, and every form of the report tells the same."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_reports import report, row

from compress.benchmark import Entry, Target
from compress.benchmark.accuracy import score
from compress.benchmark.html import to_html
from compress.benchmark.markdown import to_markdown
from compress.benchmark.plots import pareto_front
from compress.benchmark.report import Difference, Metric, Ratio, Report
from compress.benchmark.tables import brief, difference_text, number, speedup_text, summary
from compress.tasks import Task

TASK = Task(kind="classification", labels=("bad", "good"))


def entries(*names):
    return [Entry(Target(name, None), "torch") for name in names]


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Ratio(value=2, ci95=(1.9, 2.1)), "2.00× [1.90, 2.10]"),
        (Ratio(value=0.5, ci95=(0.4, 0.6)), "0.50× [0.40, 0.60]"),
        (Ratio(value=1.3, ci95=(0.9, 1.7)), "≈1 [0.90, 1.70]"),
        (Ratio(value=9, ci95=None), "(9.00×, no interval)"),
        (None, "–"),
    ],
)
def test_speedup_is_claimed_only_where_its_interval_excludes_1(ratio, text):
    assert speedup_text(ratio) == text


def test_difference_is_marked_where_test_or_interval_shows_none():
    shown = Difference(value=-2, ci95=(-3, -1), p_value=0.001, test="t")
    assert difference_text(shown, "accuracy") == "-2.0"
    assert difference_text(shown.model_copy(update={"p_value": 0.06}), "accuracy") == "-2.0 n.s."
    assert difference_text(shown.model_copy(update={"ci95": (-3, 1)}), "accuracy") == "-2.0 n.s."


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.876, "9.88"), (45.67, "45.7"), (12345.6, "12346")]
)
def test_numbers_keep_three_digits(value, text):
    assert number(value) == text


def test_report_survives_json_and_refuses_unknown_fields():
    made = report(row("a"))
    assert Report.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValidationError, match="Extra inputs"):
        Report.model_validate_json(made.model_dump_json().replace('"seed"', '"sead": 1, "seed"'))


def test_summary_has_a_line_for_each_model_and_runtime():
    rows = [
        row("a"),
        row("a", batch_size=8, p50=50.0),
        row("b", "onnxruntime", Ratio(value=4, ci95=(3.8, 4.2)), p50=2.5),
    ]
    table = summary(report(*rows))
    assert table.head[:6] == ["model", "runtime", "MB", "smaller", "ms 1×32", "ms 8×32"]
    assert [line[4:7] for line in table.rows] == [["10.0", "50.0", "1"], ["2.50", "–", "4.00× [3.80, 4.20]"]]
    assert brief(report(*rows)).head == ["model", "runtime", "MB", "ms 1×32", "speedup 1×32", "RSS MB"]


def test_markdown_columns_line_up_and_pipes_are_escaped():
    text = to_markdown(report(row("a|b"), row("longer name"), notes=("something to know",)))
    block = text.split("\n\n")[1].splitlines()
    assert len({len(line) for line in block}) == 1
    assert r"a\|b" in text
    assert "- something to know" in text


class Strict(HTMLParser):
    """Checks that elements nest, and collects ids and what a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.fetched += [
            value for name, value in attrs if name in ("src", "href") and tag not in ("a", "use")
        ]

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_one_wellformed_file_that_fetches_nothing():
    metric = Metric(name="accuracy", value=90.0, ci95=(88, 92))
    made = report(
        row("<teacher>", metric=metric),
        row("student", "onnxruntime", Ratio(value=3, ci95=(2.9, 3.1)), 3.3, metric, size_mb=20),
        accuracy=score(entries("<teacher>"), [np.eye(2)], [TASK], [[0, 1]], ["a", "b"], 0),
    )
    page = to_html(made)
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    assert parser.fetched == []
    assert "<teacher>" not in page
    assert page.count("<figure>") == 5
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"#0[1-6]0[1-6]0[1-6]", page)  # every colour of a plot is a variable of the page
    assert "<image" not in page  # drawn, not rasterised


def test_html_without_accuracy_has_bars_only():
    assert to_html(report(row("a"))).count("<figure>") == 2


def test_pareto_front_leaves_out_what_is_dominated():
    points = [(1, 80), (2, 85), (2, 90), (3, 89), (4, 95), (4, 95)]
    assert pareto_front(points) == [0, 2, 4]


def test_score_compares_example_by_example():
    truth = [0] * 50 + [1] * 50
    first, second = np.zeros((100, 2)), np.zeros((100, 2))
    first[:90, 0] = first[90:, 1] = 1  # right on 50 + 10
    second[:50, 0] = second[50:, 1] = 1  # right on all
    one, two = score(entries("first", "second"), [first, second], [TASK, TASK], [truth] * 2, ["a b"] * 100, 0)
    assert (one.metric.value, two.metric.value) == (60, 100)
    assert one.difference_with_first is None
    assert one.agreement_with_first == 100
    assert two.agreement_with_first == 60
    assert two.difference_with_first.value == 40
    assert two.difference_with_first.p_value == pytest.approx(2 * 0.5**40)  # 40 discordant pairs, all won
    assert two.difference_with_first.differs


def test_score_matches_classes_by_name():
    swapped = Task(kind="classification", labels=("good", "bad"))
    logits = np.eye(2)
    one, two = score(
        entries("a", "b"), [logits, logits[:, ::-1]], [TASK, swapped], [[0, 1]] * 2, ["a", "b"], 0
    )
    assert one.metric.value == two.metric.value == two.agreement_with_first == 100


def test_score_of_regression_is_a_correlation_with_a_paired_bootstrap():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(200)
    task = Task(kind="regression")
    near, far = (truth[:, None] + noise * rng.standard_normal((200, 1)) for noise in (0.1, 2))
    one, two = score(entries("near", "far"), [near, far], [task, task], [truth] * 2, ["a b"] * 200, 0)
    assert one.metric.name == "spearman"
    assert one.metric.ci95[0] < one.metric.value < one.metric.ci95[1]
    assert two.agreement_with_first == pytest.approx(np.corrcoef(near[:, 0], far[:, 0])[0, 1])
    assert two.difference_with_first.value == pytest.approx(two.metric.value - one.metric.value)
    assert two.difference_with_first.differs
