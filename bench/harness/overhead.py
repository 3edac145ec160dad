"""What a call costs the harness itself: an ONNX graph that does nothing, timed by a worker and by a bare loop."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from compress.benchmark import BenchConfig, Entry, Target
from compress.benchmark.pool import Worker
from compress.benchmark.statistics import paired_ratio

_ROUNDS, _CALLS = 20, 200


def write_nothing(file: Path) -> Path:
    """Write a graph whose answer is its input, one copy."""
    shape = ["batch", "length"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input_ids"], ["logits"])],
        "nothing",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.INT64, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    return file


def table(work: Path) -> list[str]:
    """Return Markdown lines: microseconds of a call as the worker reports them, and of the loop around it."""
    file = write_nothing(work / "nothing.onnx")
    ids = np.ones((1, 1), np.int64)
    np.savez(work / "one.npz", **{"input_ids.0": ids, "attention_mask.0": ids})  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    reported, asked, bare = [], [], []
    entry = Entry(Target("nothing", work), "onnxruntime")
    with Worker(entry, file, BenchConfig(), work / "log") as worker:
        worker.receive()
        worker.ask({"do": "warm", "inputs": str(work / "one.npz"), "seconds": 0.5})
        for _ in range(_ROUNDS):
            start = time.perf_counter_ns()
            request = {"do": "time", "inputs": str(work / "one.npz"), "runs": _CALLS, "discard": 0}
            reported.append(worker.ask(request)["nanoseconds"])
            asked.append((time.perf_counter_ns() - start) / _CALLS)
            start = time.perf_counter_ns()
            for _ in range(_CALLS):
                session.run(None, {"input_ids": ids})
            bare.append((time.perf_counter_ns() - start) / _CALLS)
    found = {
        "a bare loop around `session.run`": np.asarray(bare)[:, None],
        "what the worker reports of a call": np.asarray(reported, np.float64),
        "the same with asking it and its answer, a call of 200": np.asarray(asked)[:, None],
    }
    first = found["a bare loop around `session.run`"]
    lines = ["| | µs a call | beside the bare loop | against it (95%) |", "|---|---:|---:|---:|"]
    for name, values in found.items():
        ratio, interval = paired_ratio(values, first)
        assert interval is not None
        microseconds = float(np.median(values)) / 1e3
        more = microseconds - float(np.median(first)) / 1e3
        shown = f"{ratio:.2f}× [{interval[0]:.2f}, {interval[1]:.2f}]" if values is not first else ""
        lines.append(f"| {name} | {microseconds:.1f} | {more:+.1f} | {shown} |")
    return lines
