"""The suite of distillation speed: one student and one loss for all, runs that resume, ratios round by round."""

import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from tiny_models import WORDS, tiny_artifact, tiny_model

from bench.distillation_speed import cells
from bench.distillation_speed.cells import Run, Setting
from bench.distillation_speed.methods import METHODS, PEERS, Method
from bench.distillation_speed.report import table
from bench.no_retraining.models import write_rows
from compress.artifact import save

OPTIONS = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "pad_to": 20}


@pytest.fixture
def peers(monkeypatch):
    """Peers' scripts import what lies beside their folder."""
    for name in ("run", "distilling", "protocol"):
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(str(PEERS))


@pytest.fixture
def setting(tmp_path):
    teacher, student = tiny_artifact(tiny_model("bert")), tiny_artifact(tiny_model("bert", layers=1, seed=1))
    save(teacher, tmp_path / "teacher")
    save(student, tmp_path / "student")
    rows = datasets.Dataset.from_dict(
        {"text": [" ".join(WORDS[: 1 + i]) for i in range(10)], "label": [0, 1] * 5}
    )
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "validation", "test")}
    for file in files.values():
        write_rows(file, rows, teacher)
    return Setting(tmp_path / "teacher", tmp_path / "student", files, OPTIONS, 1, np.array([0, 1] * 5))


def runs(method, seconds, accuracy=80.0):
    facts = [{"seconds": second, "cpu_seconds": 2 * second} for second in seconds]
    return [Run(method, i, fact, accuracy + i) for i, fact in enumerate(facts)]


def test_ratios_are_of_the_same_rounds():
    ours, plain = runs("ours", [1, 2, 4, 8, 16]), runs("plain", [3, 6, 12, 24, 48], 70.0)
    head, _, first, second = table([*ours, *plain], 400)
    assert head.endswith("| as long as ours, wall clock | as long as ours, processor | accuracy, % |")
    # Medians 4 and 12 s; every round has the same ratio, so its interval has no width. Seeds 80..84: sd √2.5.
    assert first == "| **ours** | 4.0 | 8.0 | 100 | 1 | 1 | 82.00 ± 1.58 |"
    plain_title = METHODS["plain"].title
    assert (
        second
        == f"| {plain_title} | 12.0 | 24.0 | 33 | 3.00× [3.00, 3.00] | 3.00× [3.00, 3.00] | 72.00 ± 1.58 |"
    )


def test_few_rounds_have_no_interval_and_failures_are_named():
    failed = Run("textbrewer", 0, {"error": "KeyError: 'x'"}, None)
    lines = table([*runs("ours", [2.0]), failed, *runs("plain", [5.0])], 10)
    assert lines[3] == f"| {METHODS['textbrewer'].title} | failed: KeyError: 'x' |  |  |  |  |  |"
    assert "| 2.50× | 2.50× | 80.00 |" in lines[4]


def job(setting, tmp_path, variant=""):
    from distilling import Job

    return Job(setting.teacher, setting.student, *setting.rows.values(), tmp_path, variant, **OPTIONS, seed=0)


def test_every_row_is_padded_to_the_same_length_or_to_the_longest(peers, setting, tmp_path):
    task = job(setting, tmp_path)
    fixed, longest = ([batch["input_ids"].shape for batch in task.batches(1, to)] for to in (20, None))
    assert fixed == [(4, 20), (4, 20), (2, 20)]
    assert max(shape[1] for shape in longest) == 12  # ten words and two special tokens
    batch = next(iter(task.batches(1, 20)))
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 1).all()
    assert batch["labels"].shape == (4,)


def test_the_plain_loop_trains_towards_the_teacher(peers, setting, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS / "plain"))
    import run
    from distilling import models
    from protocol import answers, read_rows

    task, rows = job(setting, tmp_path), read_rows(setting.rows["test"])
    teacher, before = models(task)

    def distance(student):
        gap = answers(student.eval(), rows) - answers(teacher, rows)
        return float(np.abs(gap[:, 1] - gap[:, 0]).mean())

    torch.manual_seed(0)
    assert distance(run.train(task)) < 0.8 * distance(before)


def test_a_run_is_done_once(setting, tmp_path, monkeypatch):
    first = cells.measure(setting, "ours", METHODS["ours"], 0, tmp_path / "work")
    assert first.facts.get("error") is None
    assert first.facts["seconds"] > 0
    assert first.accuracy is not None
    folder = tmp_path / "work" / "runs" / "ours-0"
    assert np.load(folder / "logits.npy").shape == (10, 2)
    assert not [path for path in folder.iterdir() if path.is_dir()]
    monkeypatch.setattr(cells, "_run", None)
    assert cells.measure(setting, "ours", METHODS["ours"], 0, tmp_path / "work") == first
    with pytest.raises(TypeError):  # another seed is another run
        cells.measure(setting, "ours", METHODS["ours"], 1, tmp_path / "work")


def test_a_method_that_fails_leaves_its_last_words(setting, tmp_path):
    script = tmp_path / "broken" / "run.py"
    script.parent.mkdir()
    script.write_text("raise SystemExit('this peer cannot')\n")
    found = cells.measure(setting, "broken", Method("broken", script), 0, tmp_path / "work")
    assert found == Run("broken", 0, {"error": "this peer cannot"}, None)


def test_every_script_is_there():
    for method in METHODS.values():
        assert Path(method.script).is_file()
    pinned = METHODS["textbrewer"].requirements.read_text().split()
    assert "textbrewer==0.2.1.post1" in pinned
