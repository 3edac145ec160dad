"""Parts of a bench alone: the worker's protocol, plans, inputs, files, options."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from tiny_models import tiny_model
from tiny_reports import row

from compress.architectures import positions_of
from compress.benchmark import BenchConfig, latency
from compress.benchmark import targets as files
from compress.benchmark.harness import _noise_notes
from compress.benchmark.latency import plan_rounds, write_inputs
from compress.benchmark.report import Ratio
from compress.benchmark.shapes import Shape
from compress.benchmark.worker import Handler


def test_a_worker_under_load_counts_every_call(tmp_path):
    class Slow:
        def bind(self, inputs):
            def once():
                time.sleep(0.01)
                return 10_000_000

            return once

    np.savez(tmp_path / "one.npz", **{"input_ids.0": np.ones((1, 3), int)})
    one, four = (Handler(Slow()).do_load(str(tmp_path / "one.npz"), n, 0.3) for n in (1, 4))
    assert set(one["nanoseconds"]) == {10_000_000}
    assert len(four["nanoseconds"]) > 2 * len(one["nanoseconds"])


def test_a_run_over_texts_is_the_mean_of_its_calls(tmp_path):
    class Constant:
        def bind(self, inputs):
            return lambda: 10 * inputs["input_ids"].shape[1]

    np.savez(tmp_path / "texts.npz", **{f"input_ids.{i}": np.ones((1, 3 + i), int) for i in range(3)})
    handler = Handler(Constant())
    warm = handler.do_warm(str(tmp_path / "texts.npz"), 0.1)
    assert warm["seconds"] == pytest.approx(3 * 40e-9)  # what a run costs: three calls of 30, 40 and 50 ns
    assert handler.do_time(str(tmp_path / "texts.npz"), 2, 1) == {"nanoseconds": [40, 40]}


def test_a_noisy_bench_says_how_many_rounds_it_needs():
    times = {(0, Shape(1, 8)): np.ones((12, 4))}
    rows = [row("a"), row("b", speedup=Ratio(value=2, ci95=(1.6, 2.2)))]  # 2 / 1.6 is a quarter beyond
    assert "25% beyond it; about 75 rounds instead of 12" in _noise_notes(rows, times)[0]
    assert _noise_notes([row("b", speedup=Ratio(value=2, ci95=(1.9, 2.1)))], times) == []
    assert _noise_notes([row("b", speedup=Ratio(value=2, ci95=None))], times) == []


def test_onnxruntime_worker_imports_neither_torch_nor_transformers():
    code = (
        "import sys, compress.benchmark.worker, compress.benchmark.onnx_engine;"
        "print({'torch', 'transformers', 'pydantic'} & set(sys.modules))"
    )
    assert _python(code).stdout.strip() == "set()"


def test_what_libraries_print_does_not_reach_the_protocol():
    code = """
import os, sys
from compress.benchmark import worker
def noisy(*options):
    print("from Python"); os.system("echo from C")
worker.open_engine = noisy
sys.argv = ["worker", '{"runtime": "x", "path": "x", "threads": 1, "device": "cpu"}']
sys.exit(worker.main())
"""
    done = _python(code)
    assert json.loads(done.stdout).keys() == {"load_s"}
    assert "from Python" in done.stderr
    assert "from C" in done.stderr


def _python(code):
    root = str(Path(files.__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", code],
        input="",
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": root},
    )


def test_time_is_shared_out_and_slow_models_get_five_rounds():
    fast, slow = (0, Shape(1, 8)), (1, Shape(1, 8))
    # A turn is 60 s / (12 rounds · 2 cells) = 2.5 s: 40 runs of 1 ms at most, one run of 100 s.
    config = BenchConfig(rounds=12, seconds=60)
    assert plan_rounds({fast: 0.001, slow: 100.0}, config) == latency.Plan(5, {fast: 40, slow: 1})
    # 0.25 s fit ten times into 2.5 s, and all twelve rounds into the time.
    assert plan_rounds({fast: 0.25, slow: 0.25}, config) == latency.Plan(12, {fast: 10, slow: 10})
    assert plan_rounds({slow: 100.0}, BenchConfig(rounds=2)).rounds == 2


def test_inputs_are_full_valid_and_without_padding(tmp_path):
    shapes = [Shape(1, 8), Shape(4, 16)]
    made = write_inputs(shapes, vocabulary=30, padding={20}, seed=0, folder=tmp_path)
    for shape in shapes:
        with np.load(made[shape]) as arrays:
            ids = arrays["input_ids.0"]
            assert ids.shape == (shape.batch_size, shape.sequence_length)
            assert set(np.unique(ids)) <= set(range(15, 30)) - {20}
            assert arrays["attention_mask.0"].min() == 1


def test_parameters_count_codes_but_neither_scales_nor_indices(tmp_path):
    tensors = {
        "dense.weight": torch.zeros(4, 3, dtype=torch.int8),
        "dense.scale": torch.zeros(4),
        "dense.bias": torch.zeros(4),
        "norm.scale": torch.zeros(5),  # no codes beside it: a parameter like any other
        "position_ids": torch.zeros(7, dtype=torch.int64),
    }
    save_file(tensors, tmp_path / "compressed.safetensors")
    assert files.count_parameters(tmp_path) == 12 + 4 + 5


def test_shipped_files_are_those_the_runtime_needs(tmp_path):
    names = ["config.json", "tokenizer.json", "model.safetensors", "recipe.yaml", "manifest.json"]
    names += ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_quantized.onnx"]
    (tmp_path / "onnx").mkdir()
    for name in names:
        (tmp_path / name).touch()
    assert files.onnx_file(tmp_path) == tmp_path / "onnx/model_quantized.onnx"
    torch_files = files.needed_files(tmp_path, "torch", None)
    assert {path.name for path in torch_files} == {"model.safetensors", "config.json", "tokenizer.json"}
    onnx_files = files.needed_files(tmp_path, "onnxruntime", tmp_path / "onnx/model.onnx")
    assert {p.name for p in onnx_files} == {"model.onnx", "model.onnx_data", "config.json", "tokenizer.json"}


@pytest.mark.parametrize(("family", "positions"), [("bert", 40), ("mpnet", 38), ("roberta", 38)])
def test_families_that_offset_positions_take_that_much_less(family, positions):
    assert positions_of(tiny_model(family, layers=1).config) == positions


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"runtimes": ()}, {"batch_sizes": (1, 1)}, {"rounds": 0}, {"round": 1}]
)
def test_config_refuses(wrong):
    with pytest.raises(ValidationError):
        BenchConfig(**wrong)
