import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_artifact, tiny_batch, tiny_model
from torch import nn

from bench.no_retraining import cells, report
from bench.no_retraining.cells import Cell
from bench.no_retraining.methods import METHODS, PEERS, Method
from bench.no_retraining.models import Subject
from bench.no_retraining.plot import draw
from compress.artifact import save

FACTS = {"kept": 0.51, "cpu_seconds": 2.5, "reload": "same"}


@pytest.fixture
def protocol(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))
    import protocol

    return protocol


@pytest.fixture
def svd(monkeypatch, protocol):
    monkeypatch.syspath_prepend(str(PEERS / "svd"))
    sys.modules.pop("run", None)
    import run

    return run


def cell(method, share, right, **facts):
    return Cell("l6-mr", method, share, None if right is None else np.array(right, bool), FACTS | facts)


def test_a_record_counts_paired_answers():
    dense = cell("dense", 0.0, [1] * 80 + [0] * 20)
    # Of 100 rows 10 that dense answers right are lost and 4 others are won: 74 right.
    found = report.record(cell("tp-taylor", 0.5, [0] * 10 + [1] * 74 + [0] * 16), dense)
    assert (found["accuracy"], found["difference"]) == (74, -6)
    # Wilson, n = 100, p = 0.74, z = 1.96: (0.74 + 0.0192 ± 1.96 √(0.001924 + 0.000096)) / 1.0384.
    assert found["accuracy_ci95"] == pytest.approx([64.63, 81.60], abs=0.01)
    # Agresti and Min: d = -6/102, √((15/102 - d²) / 102) = 0.03752; -0.0588 ± 1.96 × 0.03752.
    assert found["difference_ci95"] == pytest.approx([-13.24, 1.47], abs=0.01)
    assert found["difference_p"] == pytest.approx(0.1796, abs=1e-4)  # 2 (1+14+91+364+1001) / 2^14


def test_tables_show_numbers_failures_and_what_was_really_removed():
    dense = cell("dense", 0.0, [1] * 80 + [0] * 20)
    done = cell("tp-taylor", 0.5, [1] * 74 + [0] * 26, reload="not loaded: RuntimeError")
    failed = Cell("l6-mr", "textpruner-even", 0.25, None, {"error": "KeyError: 'mpnet'"})
    lines = report.tables([report.record(c, dense) for c in (dense, done, failed)])
    rows = [line for line in lines if line.startswith("| Torch-Pruning Taylor")]
    assert rows[0].split("|")[3].split()[0] == "74.00"
    assert "**-6.00**" in rows[0]
    assert rows[1].split("|")[3].strip() == "49.0%; 2.5 s; no"
    assert any(line.startswith("| TextPruner, iterative, even | failed |") for line in lines)
    assert any("`KeyError: 'mpnet'`" in line for line in lines)


def test_a_recovered_model_has_a_table_of_its_own():
    dense = cell("dense", 0.0, [1] * 80 + [0] * 20)
    after = cell("ours-prune-teacher", 0.5, [1] * 79 + [0] * 21, cpu_seconds=60.0)
    lines = report.tables([report.record(c, dense) for c in (dense, after)])
    (row,) = [line for line in lines if line.startswith("| ours, pruned, teacher's answers")]
    assert "79.00" in row
    assert row.endswith("| 60 |")


def test_heads_go_whole_and_neurons_make_up_the_rest(protocol):
    config = tiny_model("bert").config  # width 32, 4 heads of 8, 64 neurons: 4096 + 4096 weights a layer
    config.update({"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536})
    model = type("Model", (), {"config": config})
    # 70% of 1,769,472 is 1,238,630; eight heads are 393,216 of it, and a neuron is 768.
    assert protocol.units(model, 0.7) == (8, 1101)
    assert protocol.units(model, 0.5) == (6, 768)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_only_the_layers_matrices_are_counted(protocol, family):
    assert protocol.layer_weights(tiny_model(family, layers=2)) == 2 * (4 * 32 * 32 + 2 * 32 * 64)


def test_answers_do_not_depend_on_the_order_of_rows(protocol):
    model, batch = tiny_model("bert"), tiny_batch()
    rows = [
        {"input_ids": ids[mask].tolist(), "attention_mask": [1] * int(mask.sum()), "label": 0, "text": ""}
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True)
    ]
    with torch.no_grad():
        expected = model(**batch).logits.numpy()
    assert np.allclose(protocol.answers(model, rows), expected, atol=1e-6)
    assert np.allclose(protocol.answers(model, rows[::-1]), expected[::-1], atol=1e-6)


def test_the_svd_baselines_lose_what_they_discard(svd):
    torch.manual_seed(0)
    linear, x = nn.Linear(12, 8).double(), torch.randn(50, 12, dtype=torch.float64) * torch.arange(1, 13)
    gram = x.T @ x
    # rank floor(share × 96 / 20): 3 of 8 at 0.7.
    for weights, inputs, given in (
        (linear.weight, torch.eye(12, dtype=torch.float64), None),
        (linear.weight @ torch.linalg.cholesky(gram), x, gram),
    ):
        with torch.no_grad():
            pair = svd.split(linear, 0.7, given).double()
        lost = inputs @ (linear.weight - pair[1].weight @ pair[0].weight).T
        discarded = torch.linalg.svdvals(weights)[3:].square().sum()
        assert pair[0].out_features == 3
        assert lost.square().sum().item() == pytest.approx(discarded.item(), rel=1e-5)


def write_rows(path: Path) -> Path:
    row = {"input_ids": [0, 5, 6, 2], "attention_mask": [1, 1, 1, 1], "label": 1, "text": "good bad"}
    path.write_text(f"{json.dumps(row)}\n" * 3)
    return path


@pytest.fixture
def subject(tmp_path):
    save(tiny_artifact(tiny_model("bert")), tmp_path / "model")
    rows = write_rows(tmp_path / "rows.jsonl")
    return Subject(tmp_path / "model", rows, rows, np.array([1, 1, 1]))


def test_a_cell_is_run_once_until_its_script_changes(subject, tmp_path):
    script = tmp_path / "method.py"
    script.write_text(
        "from pathlib import Path\n"
        "from protocol import run\n"
        "def halve(model, job):\n"
        "    with (job.out.parent / 'runs').open('a') as file: file.write('x')\n"
        "    for layer in model.bert.encoder.layer:\n"
        "        layer.intermediate.dense.weight.data = layer.intermediate.dense.weight.data[:32]\n"
        "        layer.intermediate.dense.bias.data = layer.intermediate.dense.bias.data[:32]\n"
        "        layer.output.dense.weight.data = layer.output.dense.weight.data[:, :32]\n"
        "    return model\n"
        "run(halve)\n"
    )
    method = Method("halved", "prune", script, "")
    runs = tmp_path / "cells" / "runs"

    def measure():
        return cells.measure("l6-mr", subject, "halved", method, 0.25, tmp_path)

    first = measure()
    assert first.facts["kept"] == 0.75
    assert first.facts["reload"].startswith("not loaded: ")  # config.json still says 64 neurons
    assert first.right is not None
    assert first.right.shape == (3,)
    assert measure().facts == first.facts
    assert runs.read_text() == "x"
    script.write_text("raise SystemExit('this peer cannot')\n")
    assert measure().facts == {"error": "this peer cannot"}


def test_a_dense_model_reloads_as_it_was(subject, tmp_path):
    found = cells.measure("l6-mr", subject, "dense", METHODS["dense"], 0.0, tmp_path)
    assert (found.facts["kept"], found.facts["reload"]) == (1.0, "same")


def test_the_picture_has_a_line_for_each_method_that_worked(tmp_path):
    dense = cell("dense", 0.0, [1] * 80 + [0] * 20)
    done = [cell("tp-taylor", share, [1] * 74 + [0] * 26, kept=1 - share) for share in (0.25, 0.5)]
    failed = Cell("l6-mr", "textpruner-even", 0.25, None, {"error": "KeyError: 'mpnet'"})
    retrained = cell("ours-prune-teacher", 0.5, [1] * 79 + [0] * 21)
    draw([report.record(c, dense) for c in (dense, *done, failed, retrained)], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    names = {METHODS[name].title.strip("*"): name for name in METHODS}
    assert [name for name in names if f">{name}<" in text] == ["dense", "Torch-Pruning Taylor, global"]


def test_only_what_is_on_disk_and_unchanged_is_finished(tmp_path):
    model = tmp_path / "model"
    save(tiny_artifact(tiny_model("bert")), model)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    subject, method = Subject(model, rows, rows, np.zeros(1, np.int64)), METHODS["tp-taylor"]
    assert not cells.is_finished("l6-mr", subject, "tp-taylor", method, 0.5, tmp_path)
    folder = tmp_path / "cells" / "l6-mr-tp-taylor-0.5"
    folder.mkdir(parents=True)
    (folder / "key").write_text(cells._key(subject, method, 0.5))
    assert cells.is_finished("l6-mr", subject, "tp-taylor", method, 0.5, tmp_path)
    rows.write_text("{} \n")
    assert not cells.is_finished("l6-mr", subject, "tp-taylor", method, 0.5, tmp_path)
