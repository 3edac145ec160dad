"""The suite of int8 files: a line for each file in each runtime; a peer that fails is named, not hidden."""

from test_benchmark_report import report, row
from test_recommendation import accuracy
from tiny_models import tiny_artifact, tiny_model

from bench.quantized.__main__ import table
from bench.quantized.files import Peer, peer_folder
from compress.artifact import save
from compress.benchmark.report import Ratio


def test_table_has_speed_at_every_shape_and_accuracy_with_intervals():
    rows = [row("plain", "onnxruntime", sequence_length=tokens) for tokens in (32, 128)]
    for tokens, value in ((32, 3.0), (128, 2.0)):
        ratio = Ratio(value=value, ci95=(value - 0.5, value + 0.5))
        rows.append(row("ours", "onnxruntime", ratio, sequence_length=tokens))
    scores = (accuracy("plain", "onnxruntime"), accuracy("ours", "onnxruntime", loss=0.2))

    head, _, first, second = table(report(*rows, accuracy=scores))

    assert head.endswith("| faster, 1×32 | faster, 1×128 |")
    assert first.startswith("| plain | onnxruntime | 90.0 | 90.00 [90.0, 90.0] | – |")
    assert "| -0.2 n.s. [-0.3, -0.1] | 99.0% | 3.00× [2.50, 3.50] | 2.00× [1.50, 2.50] |" in second


def asked_twice(tmp_path, code, variant=""):
    """What `peer_folder` returns, twice, for a toolkit that is one script, on a tiny BERT."""
    model, rows, script = tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "toolkit" / "run.py"
    save(tiny_artifact(tiny_model("bert", layers=1)), model)
    rows.write_text("{}\n")
    script.parent.mkdir()
    script.write_text(code)
    return [peer_folder(Peer("p", script, variant), model, rows, tmp_path / "work") for _ in range(2)]


def test_a_peer_writes_into_a_model_folder_of_its_own_and_once(tmp_path):
    code = (
        "import json, sys\njob = json.load(open(sys.argv[1]))\nopen(job['out'], 'a').write(job['variant'])\n"
    )

    folders = asked_twice(tmp_path, code, "v")

    assert folders[0] == folders[1] == tmp_path / "work" / "peers" / "toolkit-v"
    assert (folders[0] / "onnx" / "model.onnx").read_text() == "v"  # appended to once
    assert (folders[0] / "config.json").exists()
    assert not list(folders[0].glob("*.safetensors"))


def test_a_peer_that_fails_leaves_its_last_words(tmp_path):
    said = asked_twice(tmp_path, "raise SystemExit('this model is not supported')\n")

    assert said == ["this model is not supported"] * 2
