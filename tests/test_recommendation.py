"""The recommendation is the fastest entry that intervals and accuracy allow, and float32 where none is."""

import json
import math

import pytest
from family_grid import artifact_of
from test_benchmark_report import report, row
from tiny_data import write_reviews

from compress.artifact import save
from compress.benchmark import BenchConfig
from compress.benchmark.report import Accuracy, Difference, Metric, Ratio
from compress.errors import InputError
from compress.quantization import quantize_model
from compress.recommendation import recommend
from compress.recommendation.choice import best, judge
from compress.recommendation.variants import sensible_variants


def accuracy(name, runtime, loss=None, metric="accuracy"):
    value = 90.0 if metric == "accuracy" else 0.9
    difference = None
    if loss is not None:
        difference = Difference(value=-loss, ci95=(-loss - 0.1, -loss + 0.1), p_value=0.5, test="t")
    return Accuracy(
        name=name,
        runtime=runtime,
        examples=100,
        metric=Metric(name=metric, value=value, ci95=(value, value)),
        metrics={metric: value},
        agreement_with_first=99.0,
        difference_with_first=difference,
    )


def bench(*others, metric="accuracy"):
    """A report of float32 and of (name, {tokens: (speedup, low, high)}, points lost) each, in ONNX Runtime."""
    rows = [row("float32", "onnxruntime", sequence_length=tokens) for tokens in (32, 128)]
    scores = [accuracy("float32", "onnxruntime", metric=metric)]
    for name, speeds, loss in others:
        for tokens, (value, *interval) in speeds.items():
            ratio = Ratio(value=value, ci95=interval)
            rows.append(row(name, "onnxruntime", ratio, sequence_length=tokens))
        scores.append(accuracy(name, "onnxruntime", loss, metric))
    return report(*rows, accuracy=tuple(scores))


FAST = {32: (4, 3.5, 4.5), 128: (2, 1.8, 2.2)}


def test_the_fastest_over_all_shapes_is_recommended():
    slower = {32: (2, 1.9, 2.1), 128: (2, 1.9, 2.1)}

    verdicts = judge(bench(("a", slower, 0.0), ("b", FAST, 0.2)), max_drop=0.5)

    assert best(verdicts).name == "b"
    assert best(verdicts).speedup == pytest.approx(math.sqrt(4 * 2))  # the geometric mean of its two shapes


def test_float32_wins_where_no_interval_lies_above_1_at_every_shape():
    unsure = {32: (4, 3.5, 4.5), 128: (1.1, 0.9, 1.3)}

    verdicts = judge(bench(("a", unsure, 0.0)), max_drop=0.5)

    assert best(verdicts).name == "float32"
    assert verdicts[1].against == ("1×128: 1.10× [0.90, 1.30]",)


def test_what_loses_more_than_the_budget_is_not_recommended_however_fast():
    report_ = bench(("a", FAST, 0.6))

    assert best(judge(report_, max_drop=0.5)).name == "float32"
    assert judge(report_, max_drop=0.5)[1].against == ("-0.60 points [-0.70, -0.50]",)
    assert best(judge(report_, max_drop=0.7)).name == "a"


def test_a_point_of_a_correlation_is_a_hundredth():
    report_ = bench(("a", FAST, 0.02), metric="spearman")  # two points

    assert best(judge(report_, max_drop=1)).name == "float32"
    assert best(judge(report_, max_drop=3)).name == "a"


def test_variants_are_what_machine_and_data_allow():
    everything, none_left = sensible_variants(("avx512_vnni", "amx_bf16"), has_data=True, has_openvino=True)
    little, left_out = sensible_variants(("avx2",), has_data=False, has_openvino=False)

    assert [(each.name, each.runtimes) for each in everything] == [
        ("float32", ("onnxruntime", "openvino", "openvino-bf16")),
        ("int8-dynamic", ("onnxruntime",)),
        ("int8-static", ("onnxruntime", "openvino")),
    ]
    assert none_left == []
    assert [(each.name, each.runtimes) for each in little] == [
        ("float32", ("onnxruntime",)),
        ("int8-dynamic", ("onnxruntime",)),
    ]
    assert [reason.split(":")[0].split(" (")[0] for reason in left_out] == [
        "OpenVINO is not installed",
        "no int8 instructions are known here",
        "static int8",
    ]


def test_a_model_is_tried_in_every_form_and_a_second_call_makes_none_again(tmp_path, capsys):
    write_reviews(tmp_path / "reviews.csv")
    save(artifact_of("bert"), tmp_path / "model")
    config = BenchConfig(batch_sizes=(1,), sequence_lengths=(8,), rounds=5, seconds=1)
    arguments = (str(tmp_path / "model"), config, str(tmp_path / "reviews.csv"), 100.0, tmp_path / "out")

    first = recommend(*arguments)
    capsys.readouterr()
    again = recommend(*arguments)

    tried = {verdict.name for verdict in first.verdicts}
    assert tried == {"float32", "int8-dynamic", "int8-static"}
    assert first.best.against == ()
    assert any((first.folder / "onnx").glob("*.onnx"))
    written = json.loads((tmp_path / "out" / "recommendation.json").read_text())
    assert written["recommended"] == f"{again.best.name} in {again.best.runtime}"
    assert capsys.readouterr().err.count("done before") == 5  # export; twice quantize and export


def test_an_int8_model_is_refused(tmp_path):
    artifact = artifact_of("bert")
    quantize_model(artifact.model)
    save(artifact, tmp_path / "int8")

    with pytest.raises(InputError, match="int8 already"):
        recommend(str(tmp_path / "int8"), BenchConfig(), None, 0.5, tmp_path / "out")

    assert not (tmp_path / "out").exists()
