"""The bench of the harness itself, in small."""

import numpy as np
import onnxruntime
from tiny_reports import report, row

from bench.harness import gate, intervals, overhead
from compress.benchmark.comparison import Limits
from compress.benchmark.report import Ratio


def reports(speedup, half=0.01):
    return report(
        row("teacher"), row("student", speedup=Ratio(value=speedup, ci95=(speedup - half, speedup + half)))
    )


def test_the_gates_table_counts_alarms_and_catches():
    # The student is 1.2 times as fast; once it seems slower than it is, and once the slower one seems fast.
    seen = [(1.2, 1.0), (1.2, 1.0), (1.05, 1.0), (1.2, 1.18)]
    lines = gate.table([(reports(a), reports(b)) for a, b in seen], Limits())
    assert lines[2].startswith("| equal models | 3 | 1 | 33%")
    # Against 1.2: 1.0 is caught twice; against 1.05: 1.18 is not slower.
    assert lines[3].startswith("| the second is slower | 3 | 2 | 67%")
    assert "0.89 to 1.20 times as long" in lines[-1]


def test_the_models_of_the_gate_are_minilms_first_layers(tmp_path, monkeypatch):
    from tiny_models import tiny_artifact, tiny_model

    import compress.artifact

    tiny = tiny_artifact(tiny_model("bert", layers=3))
    monkeypatch.setattr(compress.artifact, "load", lambda name: tiny)
    gate.save_layers(2, tmp_path / "two")
    assert compress.artifact.read_config(tmp_path / "two").num_hidden_layers == 2


def test_intervals_are_counted_for_each_noise_and_number_of_rounds():
    lines = intervals.table(trials=20)
    assert len(lines) == 2 + len(intervals.NOISES)
    shares = [float(cell.strip(" %")) for line in lines[2:] for cell in line.split("|")[2:-1]]
    assert len(shares) == len(intervals.NOISES) * len(intervals.ROUNDS)
    assert np.mean(shares) > 85


def test_the_graph_that_does_nothing_gives_its_input_back(tmp_path):
    session = onnxruntime.InferenceSession(str(overhead.write_nothing(tmp_path / "n.onnx")))
    ids = np.arange(6).reshape(2, 3)
    assert np.array_equal(session.run(None, {"input_ids": ids})[0], ids)
