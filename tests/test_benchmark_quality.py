"""What stands behind a metric, by hand."""

import math
from random import Random

import datasets
import numpy as np
import pytest
from tiny_configs import SIZE
from tiny_models import tiny_artifact, tiny_model
from tiny_reports import report, row

from compress.artifact import save
from compress.benchmark import Entry, Target
from compress.benchmark.accuracy import robustness, score
from compress.benchmark.anatomy import anatomy
from compress.benchmark.evidence import Evidence
from compress.benchmark.html import to_html
from compress.benchmark.layer_picture import layer_picture
from compress.benchmark.markdown import to_markdown
from compress.benchmark.noise import noisy, with_typos
from compress.benchmark.quality import Readable, calibration, divergence, quality
from compress.benchmark.report import Layer, Model
from compress.benchmark.steps import steps
from compress.tasks import Task

LABELS = ("bad", "good")


def logits_of(*good):
    """Logits of the given probabilities of the second class."""
    p = np.asarray(good, np.float64)
    return np.log(np.stack([1 - p, p], -1))


def test_divergence_by_hand():
    first, other = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    assert divergence(first, other) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert divergence(first, first) == 0
    assert divergence(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])) == pytest.approx(0)


def test_calibration_error_by_hand():
    # Two bins: four answers at 0.6, three right (off by 0.15); one at 0.95, wrong (off by 0.95).
    probabilities = np.array([[0.4, 0.6]] * 4 + [[0.05, 0.95]])
    bins, error = calibration(probabilities, np.array([True, True, True, False, False]))
    assert [b.examples for b in bins] == [4, 1]
    assert [b.confidence for b in bins] == pytest.approx([0.6, 0.95])
    assert [b.accuracy for b in bins] == [0.75, 0]
    assert error == pytest.approx(100 * (0.8 * 0.15 + 0.2 * 0.95))


def made(first, now, truth, texts, labels=LABELS, **slices):
    ours, theirs = logits_of(*now), logits_of(*first)
    evidence, reference = (
        Evidence("classes", np.stack([x.argmax(-1), truth], -1).astype(float)) for x in (ours, theirs)
    )
    return quality(Readable(texts, labels, slices), "accuracy", evidence, reference, (ours, theirs), 0)


def test_flips_show_what_was_lost_first_and_the_largest_falls():
    first = [0.9, 0.6, 0.4, 0.9]
    now = [0.1, 0.4, 0.6, 0.8]  # lost by much, lost by little, won, unchanged
    found = made(first, now, [1, 1, 1, 1], ["one", "two", "x" * 400, "four"])
    assert [(f.text[:3], f.first, f.now) for f in found.flips] == [
        ("one", "good", "bad"),
        ("two", "good", "bad"),
        ("xxx", "bad", "good"),
    ]
    assert (found.flips[0].before, found.flips[0].after) == pytest.approx((0.9, 0.1))
    assert len(found.flips[2].text) == 300
    assert found.flips[2].text.endswith("…")


def test_slices_are_classes_and_thirds_by_length():
    truth = np.array([0, 1] * 45)
    texts = ["w " * (1 + i // 30) for i in range(90)]  # 30 of one word, 30 of two, 30 of three
    first = np.where(truth == 1, 0.9, 0.1)
    now = first.copy()
    now[[0, 2, 4, 61]] = 1 - now[[0, 2, 4, 61]]
    found = made(first, now, truth, texts)
    parts = {(part.by, part.value): part for part in found.slices}
    assert list(parts) == [
        ("label", "bad"),
        ("label", "good"),
        ("words", "up to 1"),
        ("words", "2"),
        ("words", "over 2"),
    ]
    assert (parts["label", "bad"].lost, parts["label", "good"].lost) == (3, 1)
    assert parts["label", "bad"].metric.value == pytest.approx(100 * 42 / 45)
    assert parts["words", "up to 1"].metric.value == pytest.approx(90)
    assert parts["words", "2"].difference_with_first.value == 0
    assert parts["words", "over 2"].examples == 30


def test_slices_are_the_values_of_a_column_or_thirds_of_its_numbers():
    truth, sure = np.array([0, 1] * 45), np.array([0.1, 0.9] * 45)
    genre = ["drama"] * 40 + [""] * 31 + ["rare"] * 19
    year = [str(1900 + number) for number in range(90)]
    found = made(sure, sure, truth, ["w"] * 90, genre=genre, year=year).slices
    shown = [(part.by, part.value, part.examples) for part in found if part.by not in ("label", "words")]
    assert shown == [
        ("genre", "(empty)", 31),
        ("genre", "drama", 40),
        ("year", "up to 1929.67", 30),
        ("year", "1929.67 to 1959.33", 30),
        ("year", "over 1959.33", 30),
    ]
    names = [
        f"name {number % 30}" for number in range(900)
    ]  # 30 values, no numbers: the twelve most frequent
    many = made(np.tile(sure, 10), np.tile(sure, 10), np.tile(truth, 10), ["w"] * 900, name=names).slices
    assert [part.examples for part in many if part.by == "name"] == [30] * 12


def test_small_parts_are_left_out():
    assert made([0.9] * 19, [0.9] * 19, [1] * 19, ["w"] * 19).slices == ()


def scored():
    truth = [0, 1] * 20
    first = logits_of(*[0.1, 0.9] * 20)
    now = logits_of(*[0.1, 0.9] * 18, *[0.8, 0.3] * 2)
    task = Task(kind="classification", labels=LABELS)
    texts = [f"<text> {number}" for number in range(40)]
    entries = [Entry(Target(name, None), "torch") for name in ("first", "second")]
    accuracy = score(entries, [first, now], [task] * 2, [truth] * 2, texts, 0)
    return report(
        row("first", metric=accuracy[0].metric),
        row("second", metric=accuracy[1].metric),
        accuracy=tuple(accuracy),
    )


def test_the_reports_show_parts_and_flips():
    found = scored()
    text = to_markdown(found)
    assert "## Parts of the test set" in text
    line = next(line for line in text.split("## Parts")[1].splitlines() if line.startswith("| second"))
    assert [cell.strip() for cell in line.split("|")][3:5] == ["90.0 (-10.0 n.s.)", "90.0 (-10.0 n.s.)"]
    assert [cell.strip() for cell in line.split("|")][-5:-3] == ["4", "0"]
    page = to_html(found)
    assert "&lt;text&gt; 36" in page
    assert "second · torch: answers that are not the first" in page
    assert "first · torch: answers" not in page
    assert "Calibration of the first and the last" in page


def test_regression_has_slices_by_length_alone():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=90)
    answers = truth[:, None] + rng.normal(size=(90, 1))
    task = Task(kind="regression")
    texts = ["w " * (1 + i // 30) for i in range(90)]
    (one,) = score([Entry(Target("m", None), "torch")], [answers], [task], [truth], texts, 0)
    assert {part.by for part in one.quality.slices} == {"words"}
    assert one.quality.divergence is None
    assert one.quality.flips == ()


def model(name, *steps, units=(4, 2)):
    layers = tuple(
        (
            Layer(kind="attention", units=n, parameters=100_000 * n, bits=32),
            Layer(kind="feed-forward", units=None, parameters=50_000, bits=8.1),
        )
        for n in units
    )
    return Model(
        name=name,
        bytes={"attention": 1},
        layers=layers,
        attended=32,
        steps=tuple((step, step) for step in steps),
    )


def test_steps_follow_the_models_that_were_benched():
    rows = [row("tuned"), row("thin", p50=5.0, size_mb=45), row("int8", p50=2.5, size_mb=9), row("other")]
    models = (
        model("tuned", "finetune"),
        model("thin", "finetune", "prune"),
        model("int8", "finetune", "prune", "distill", "quantize"),
        model("other"),
    )
    table = steps(report(*rows, models=models))
    assert [line[:5] for line in table.rows] == [
        ["prune", "tuned → thin", "torch", "0.50×", "0.50×"],
        ["distill + quantize", "thin → int8", "torch", "0.50×", "0.20×"],
    ]
    assert steps(report(*rows)) is None


def test_a_step_into_another_runtime_is_against_the_one_before():
    exported = row("exported", "onnxruntime", p50=2.0, size_mb=45)
    models = (model("tuned", "finetune"), model("exported", "finetune", "export"))
    made = report(row("tuned"), exported, models=models)
    assert steps(made).rows[0][:4] == ["export", "tuned → exported", "torch → onnxruntime", "0.20×"]
    assert "export · torch → onnxruntime" in to_html(made)  # the plot's line


def test_what_a_pass_costs_is_tested_on_the_same_examples():
    made = scored().model_copy(
        update={"models": (model("first", "finetune"), model("second", "finetune", "prune"))}
    )
    assert steps(made).rows[0][5] == "-10.0 n.s."  # 4 of 40 lost, none won: McNemar's p is 1/8
    assert "What each pass bought and cost" in to_html(made)
    assert "What each pass bought and cost" in to_markdown(made)


def test_the_picture_has_a_cell_for_each_layer():
    picture = layer_picture(report(row("a"), models=(model("<a>"), model("b", units=(4,)))))
    assert picture.count("<tr><td") == 4
    assert "&lt;a&gt;" in picture
    assert picture.count("color-mix") == 6
    assert "4<small>0.40 M · 32 bit</small>" in picture
    assert "<small>50 k · 8 bit</small>" in picture
    assert "var(--torch) 60%" in picture  # the largest
    assert layer_picture(report(row("a"))) == ""


def test_anatomy_counts_what_is_left(tmp_path):
    save(tiny_artifact(tiny_model("bert")), tmp_path / "m")
    (found,) = anatomy([Target("m", tmp_path / "m")])
    hidden, heads, neurons = SIZE["hidden_size"], SIZE["num_attention_heads"], SIZE["intermediate_size"]
    attention, feed_forward = found.layers[0]
    assert (attention.units, feed_forward.units) == (heads, neurons)
    assert attention.parameters == 4 * hidden * (hidden + 1)
    assert feed_forward.parameters == 2 * hidden * neurons + hidden + neurons
    assert attention.bits == 32
    (tmp_path / "m" / "model.safetensors").unlink()
    assert list(anatomy([Target("m", tmp_path / "m")])) == []


def test_typos_swap_letters_inside_a_tenth_of_the_words():
    text = "The quick brown foxes jumped over sleeping animals while nobody watched them closely"
    changed = with_typos(text, Random(0))
    pairs = [(a, b) for a, b in zip(text.split(), changed.split(), strict=True) if a != b]
    assert len(pairs) == 1  # of eleven words of four letters or more
    ((old, new),) = pairs
    assert sorted(old) == sorted(new)
    assert (old[0], old[-1]) == (new[0], new[-1])
    assert with_typos("a an the", Random(0)) == "a an the"
    assert with_typos("abcd", Random(0)) == "acbd"  # the only place


def test_noise_depends_on_seed_and_row_and_keeps_the_labels():
    test = datasets.Dataset.from_dict({"text": ["Wonderful acting throughout"] * 9, "label": list(range(9))})
    one, again, other = (noisy(test, "typos", seed)["text"] for seed in (0, 0, 1))
    assert list(one) == list(again) != list(other)
    assert len(set(one)) > 1
    upper = noisy(test, "upper-case", 0)
    assert set(upper["text"]) == {"WONDERFUL ACTING THROUGHOUT"}
    assert list(upper["label"]) == list(range(9))
    rows = {"text": ["Some more Words"], "tokens": [["Some more", "Words"]], "label": [[0, 1]]}
    tagged = noisy(datasets.Dataset.from_dict(rows), "lower-case", 0)[0]
    assert tagged == {"text": "some more words", "tokens": ["some more", "words"], "label": [0, 1]}


def test_robustness_is_against_the_clean_answers_of_the_same_model():
    truth, task = [0, 1] * 20, Task(kind="classification", labels=LABELS)
    entry = [Entry(Target("m", None), "torch")]
    clean = score(entry, [logits_of(*[0.1, 0.9] * 20)], [task], [truth], ["w"] * 40, 0)
    worse = logits_of(*[0.1, 0.9] * 10, *[0.9, 0.1] * 10)
    (found,) = robustness(clean, "typos", entry, [worse], [task], [truth], 0)
    (one,) = found.quality.robustness
    assert (one.noise, one.metric.value, one.difference_with_clean.value) == ("typos", 50, -50)
    assert found.metric == clean[0].metric
    text = to_markdown(report(row("m"), accuracy=(found,)))
    assert "| 100.0 | 50.0 (-50.0) |" in " ".join(text.split("## With noise")[1].split())


def test_flop_count_is_every_weight_once_a_token_and_attentions_products():
    found = model("m", units=(4, 2))  # weights: 400k + 50k + 200k + 50k
    assert found.multiply_adds(10) == 10 * 700_000 + 2 * 100 * 32
    assert "GFLOP at 1×128" in to_html(report(row("m"), models=(found,)))
