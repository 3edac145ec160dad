"""A bench end to end on tiny models, its workers, and what it refuses."""

import sys
from types import SimpleNamespace

import datasets
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_models import WORDS, tiny_artifact, tiny_model, tiny_tokenizer

from compress.artifact import load, save
from compress.benchmark import BenchConfig, Entry, Report, Target, run_bench, subjects
from compress.benchmark import targets as files
from compress.benchmark.latency import write_texts
from compress.benchmark.pool import Worker
from compress.errors import CompressError, FolderError, InputError
from compress.manifest import hash_json
from compress.tasks import Task
from compress.tasks.evaluate import evaluate

QUICK = {"batch_sizes": (1,), "sequence_lengths": (8,), "rounds": 1, "seconds": 0.2}
TEST = datasets.Dataset.from_dict(
    {"text": [f"{a} {b} film" for a in WORDS[:5] for b in WORDS[5:9]], "label": [0, 1] * 10}
)


def write_graph(path, inputs=("input_ids", "attention_mask")):
    """Logits are the mean over tokens of two numbers per id: a model that needs no exporter."""
    table = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    shape = ["batch", "length"]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("ReduceMean", ["rows", "axis"], ["logits"], keepdims=0),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with a trained head and an ONNX file of its own."""
    base = tmp_path_factory.mktemp("model")
    graph = write_graph(base / "made.onnx")
    artifact = tiny_artifact(tiny_model("bert")).evolve(attachments={"onnx/model.onnx": graph})
    save(artifact, base / "tiny")
    return base / "tiny"


@pytest.fixture(scope="module")
def bench(folder, tmp_path_factory):
    """Two models in two runtimes; the second is shorter, and has no ONNX file in its folder."""
    base = tmp_path_factory.mktemp("bench")
    save(tiny_artifact(tiny_model("bert", layers=1, seed=1)), base / "short")
    write_graph(base / "short" / "onnx" / "model_quantized.onnx")
    targets = [Target("tiny", folder), Target("short", base / "short")]
    config = BenchConfig(
        **QUICK | {"sequence_lengths": (8, 64), "texts": 3, "callers": (1, 2), "noise": ("typos",)}
    )
    return run_bench(
        targets, config, TEST.add_column("slice by age", ["old"] * len(TEST)), base / "out", 0
    ), base / "out"


def test_bench_has_a_row_for_each_model_runtime_and_possible_shape(bench):
    report, _ = bench
    entries = [(row.name, row.runtime, row.sequence_length) for row in report.rows]
    names = [("tiny", "torch"), ("tiny", "onnxruntime"), ("short", "torch"), ("short", "onnxruntime")]
    assert sorted(entries) == sorted((*name, length) for length in (8, 0) for name in names)
    assert "tiny (torch) has no rows at length 64: the model has 40 positions" in report.notes
    for each in report.rows:
        assert 0 < each.latency_ms.p50 <= each.latency_ms.p95 <= each.latency_ms.p99
        assert each.throughput == pytest.approx(1000 / each.latency_ms.p50)
        assert each.load_s > 0
        assert each.parameters == files.count_parameters(bench[1].parent / "short") or each.name == "tiny"
    assert report.rows[0].speedup_vs_first.value == 1


def test_bench_asks_under_load_and_with_noise(bench):
    report, _ = bench
    assert {(each.name, each.callers) for each in report.load} == {
        (n, c) for n in ("tiny", "short") for c in (1, 2)
    }
    for each in report.load:
        assert each.throughput > 0
        assert 0 < each.p50_ms <= each.p95_ms
    assert [one.noise for one in report.accuracy[-1].quality.robustness] == ["typos"]
    assert all(each.first_s > each.load_s for each in report.rows)


def test_texts_are_timed_as_each_model_reads_them(tmp_path, folder):
    task, tokenizer = load(folder).task, load(folder).tokenizer
    texts = TEST.select([0, 3]).map(lambda row, i: {"text": row["text"] + " good" * i}, with_indices=True)
    file = write_texts(texts, tokenizer, task, tmp_path)
    with np.load(file) as arrays:
        shapes = sorted(arrays[name].shape for name in arrays.files if name.startswith("input_ids"))
    assert shapes == [(1, 5), (1, 6)]  # three or four words and the two special tokens


def test_onnxruntime_worker_is_far_smaller_than_torchs(bench):
    memory = {row.runtime: row.peak_rss_mb for row in bench[0].rows if row.name == "tiny"}
    assert memory["onnxruntime"] < 150 < memory["torch"]


def test_bench_scores_the_file_itself(bench, folder):
    report, _ = bench
    by_entry = {(a.name, a.runtime): a for a in report.accuracy}
    expected = evaluate(load(folder), TEST)
    assert by_entry["tiny", "torch"].metrics == pytest.approx(expected)
    # Both ONNX files hold the same graph, which is not the torch model's.
    one, two = by_entry["tiny", "onnxruntime"], by_entry["short", "onnxruntime"]
    assert one.metrics == two.metrics
    assert one.agreement_with_first == two.agreement_with_first
    assert by_entry["short", "torch"].difference_with_first.test == "McNemar, exact"
    assert report.rows[0].metric == by_entry["tiny", "torch"].metric
    for each in report.accuracy:
        sliced = next(part for part in each.quality.slices if part.by == "age")
        assert (sliced.value, sliced.examples, sliced.metric.value) == ("old", 20, each.metric.value)


def test_the_test_sets_hash_covers_every_row(bench):
    rows = [list(TEST[name]) for name in ("label", "text")]
    assert bench[0].test == hash_json(rows)


def test_few_rounds_make_no_claim(bench):
    report, _ = bench
    others = [each for each in report.rows if (each.name, each.runtime) != ("tiny", "torch")]
    assert all(each.speedup_vs_first.ci95 is None for each in others)
    assert "fewer than 5 rounds: speedups have no interval" in report.notes


def test_bench_writes_record_table_and_page(bench):
    report, out = bench
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "report.md"]
    assert Report.model_validate_json((out / "report.json").read_bytes()) == report
    assert (out / "report.md").read_text().startswith("# Bench\n")


def test_model_without_a_head_is_timed_only(tmp_path):
    tiny_model("bert").bert.save_pretrained(tmp_path / "bare")
    tiny_tokenizer().save_pretrained(tmp_path / "bare")
    config = BenchConfig(**QUICK, runtimes=("torch",))
    report = run_bench([Target("bare", tmp_path / "bare")], config, TEST, tmp_path / "out", 0)
    assert report.rows[0].metric is None
    assert report.accuracy == ()
    assert "bare has no metric: the model has no trained head" in report.notes


def test_missing_onnx_file_is_made_and_said(tmp_path, folder, monkeypatch):
    save(tiny_artifact(tiny_model("bert")), tmp_path / "plain")
    made = SimpleNamespace(export_onnx=lambda artifact, into: write_graph(into / "onnx" / "model.onnx"))
    monkeypatch.setitem(sys.modules, "compress.exporting.export", made)
    config, notes = BenchConfig(**QUICK, runtimes=("onnxruntime",)), []
    prepared = subjects.prepare([Target("plain", tmp_path / "plain")], config, tmp_path / "work", notes)
    assert prepared[0].path.is_relative_to(tmp_path / "work")
    assert notes == ["plain: the folder has no ONNX file; model.onnx was made for this bench"]


def test_folder_with_only_an_onnx_file_is_left_out_of_torch(tmp_path, folder):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_graph(tmp_path / "onnx" / "model.onnx")
    notes = []
    prepared = subjects.prepare([Target("bundle", tmp_path)], BenchConfig(), tmp_path, notes)
    assert [subject.entry.runtime for subject in prepared] == ["onnxruntime"]
    assert notes == ["bundle (torch) was left out: the folder has an ONNX file, but no weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": []}, "no model to bench"),
        ({"targets": ["tiny", "tiny"]}, "two models are called 'tiny'"),
        ({"test": TEST.select([])}, "the test set is empty"),
        ({"test": TEST.remove_columns("label")}, "no column 'label'"),
        ({"test": TEST.map(lambda row: {"label": 5})}, "the label 5, the models answer 2 classes"),
    ],
)
def test_bench_refuses_with_the_cause(change, message, folder, tmp_path):
    names = change.get("targets", ["tiny"])
    config = BenchConfig(**QUICK, runtimes=("onnxruntime",))
    with pytest.raises(InputError, match=message):
        run_bench([Target(n, folder) for n in names], config, change.get("test", TEST), tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_texts_need_a_test_set(folder, tmp_path):
    with pytest.raises(InputError, match="texts of the test set are to be read, but there is none"):
        run_bench([Target("a", folder)], BenchConfig(**QUICK, texts=2), None, tmp_path / "out", 0)


def test_bench_refuses_models_of_another_task(folder, tmp_path):
    task = Task(kind="classification", labels=("one", "two"))
    other = tiny_artifact(tiny_model("bert")).evolve(task=task)
    save(other.evolve(attachments={"onnx/model.onnx": folder / "onnx/model.onnx"}), tmp_path / "other")
    config = BenchConfig(**QUICK, runtimes=("onnxruntime",))
    with pytest.raises(InputError, match=r"bench: other \(onnxruntime\): labels differ"):
        run_bench(
            [Target("a", folder), Target("other", tmp_path / "other")], config, TEST, tmp_path / "out", 0
        )


def test_bench_refuses_an_output_folder_that_holds_something_else(folder, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FolderError, match="holds something else"):
        run_bench([Target("tiny", folder)], BenchConfig(**QUICK), TEST, tmp_path, 0)


def test_missing_runtime_names_the_command_that_brings_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(subjects.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install onnxruntime"):
        run_bench([Target("tiny", folder)], BenchConfig(runtimes=("onnxruntime",)), None, tmp_path / "out", 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_openvino_names_the_extra(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(subjects.importlib.util, "find_spec", lambda name: None)
    config = BenchConfig(runtimes=("openvino-bf16",))
    with pytest.raises(InputError, match=r"openvino is not installed.*compress-transformers\[openvino\]"):
        run_bench([Target("tiny", folder)], config, None, tmp_path / "out", 0)


def test_openvino_is_not_benched_on_cuda(folder, tmp_path):
    config = BenchConfig(runtimes=("openvino",), device="cuda")
    with pytest.raises(InputError, match="openvino is not benched on cuda"):
        run_bench([Target("tiny", folder)], config, None, tmp_path / "out", 0)


def test_openvino_gives_onnxruntimes_answers(folder, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    runtimes = ("onnxruntime", "openvino", "openvino-bf16")
    report = run_bench(
        [Target("tiny", folder)], BenchConfig(**QUICK, runtimes=runtimes), TEST, tmp_path / "out", 0
    )
    assert [row.runtime for row in report.rows] == list(runtimes)
    assert [accuracy.agreement_with_first for accuracy in report.accuracy] == [100.0] * 3
    assert report.machine["versions"]["openvino"]
    assert len({row.size_mb for row in report.rows}) == 1


def test_openvino_refuses_a_graph_with_unknown_inputs(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    from compress.benchmark.openvino_engine import OpenVinoEngine

    path = write_graph(tmp_path / "model.onnx", inputs=("input_ids", "pixel_values"))
    with pytest.raises(InputError, match="the graph asks for the input 'pixel_values'"):
        OpenVinoEngine(path, 1, "f32")


def test_cuda_without_a_gpu_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="torch sees no GPU"):
        run_bench([Target("tiny", folder)], BenchConfig(device="cuda"), None, tmp_path / "out", 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cuda_rows_agree_with_the_cpu(folder, tmp_path):
    import onnxruntime

    have = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    runtimes = ("torch", "onnxruntime") if have else ("torch",)
    config = BenchConfig(**QUICK, runtimes=runtimes, device="cuda")
    report = run_bench([Target("tiny", folder)], config, TEST, tmp_path / "out", 0)
    assert report.accuracy[0].metrics == pytest.approx(evaluate(load(folder), TEST))
    assert all(row.device == "cuda" and row.latency_ms.p50 > 0 for row in report.rows)


def test_damaged_model_ends_the_bench_with_name_runtime_and_reason(folder, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model" / "onnx").mkdir()
    (tmp_path / "model" / "onnx" / "model.onnx").write_bytes(b"no graph")
    config = BenchConfig(**QUICK, runtimes=("onnxruntime",))
    with pytest.raises(
        CompressError, match=r"bench: broken \(onnxruntime\): the worker ended .*INVALID_PROTOBUF"
    ):
        run_bench([Target("broken", tmp_path / "model")], config, None, tmp_path / "out", 0)


def open_worker(folder, log, runtime="onnxruntime"):
    path = folder / "onnx" / "model.onnx" if runtime == "onnxruntime" else folder
    return Worker(Entry(Target("tiny", folder), runtime), path, BenchConfig(), log)


def test_killed_worker_is_reported_and_none_is_left(folder, tmp_path):
    with open_worker(folder, tmp_path / "log") as worker:
        worker.receive()
        worker.process.kill()
        with pytest.raises(CompressError, match="was killed by signal 9.*memory"):
            worker.ask({"do": "memory"})
    with pytest.raises(KeyboardInterrupt), open_worker(folder, tmp_path / "log") as worker:
        raise KeyboardInterrupt
    assert worker.process.poll() is not None


def test_worker_ends_when_its_controller_is_gone(folder, tmp_path):
    with open_worker(folder, tmp_path / "log") as worker:
        worker.receive()
        worker.stdin.close()
        assert worker.process.wait(timeout=20) == 0


def test_graph_with_unknown_inputs_is_refused(folder, tmp_path):
    path = write_graph(tmp_path / "odd.onnx", ("input_ids", "pixel_values"))
    with (
        Worker(
            Entry(Target("odd", tmp_path), "onnxruntime"), path, BenchConfig(), tmp_path / "log"
        ) as worker,
        pytest.raises(CompressError, match="asks for the input 'pixel_values'"),
    ):
        worker.receive()
