"""Steps that several parts or processes share: the weights are those of whole batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_distillation import QUICK, distance, distilled
from tiny_models import tiny_artifact, tiny_model

from compress.artifact import save
from compress.training.trainer import ObjectiveTrainer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A teacher on disk, and a cache of its own."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    save(tiny_artifact(tiny_model("bert")), tmp_path / "teacher")
    return tmp_path


def more_text(folder):
    """Write text that only the teacher labels, so that parts of a step differ in how many labels they have."""
    texts = [
        f"{a} {b} {c}" for a in ("good", "bad") for b in ("plot", "cast") for c in ("is fine", "was dull")
    ]
    (folder / "more.txt").write_text("\n".join(texts))
    return str(folder / "more.txt")


def test_parts_count_by_how_many_labels_they_have(folder):
    more = more_text(folder)
    before, _ = distilled(folder, "before", unlabelled=more, learning_rate=1e-12)
    whole, _ = distilled(folder, "whole", unlabelled=more)
    parts, _ = distilled(folder, "parts", unlabelled=more, accumulate=4)
    assert distance(whole, parts) < 0.01 * distance(whole, before)


def test_a_last_step_of_one_part_is_not_weighed_by_the_step_before():
    from accelerate import Accelerator

    trainer = object.__new__(ObjectiveTrainer)
    trainer.model_accepts_loss_kwargs, trainer.compute_loss_func = False, None
    trainer.accelerator = Accelerator(cpu=True)
    parts = iter({"labels": torch.tensor(labels)} for labels in ([1, -100], [0, 1], [-100, 0]))
    trainer.get_batch_samples(parts, 2, torch.device("cpu"))
    assert trainer._labels_of_a_part == 1.5
    trainer.get_batch_samples(parts, 1, torch.device("cpu"))
    assert trainer._labels_of_a_part == 0


LAUNCHED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from compress import api
from compress.passes.catalog import Distill
from compress.pipeline import Step
from compress.processes import count
match = [{{"objective": "hidden", "layers": [[2, 0]]}}]
options = dict(student="teacher:1", match=match, unlabelled={more!r}, **{quick!r})
api.apply([Step(Distill(**options), Path(sys.argv[1]))], {teacher!r}, {data!r})
print("processes", count())
"""


def test_two_processes_learn_what_one_does_from_the_same_batches(folder):
    from safetensors.torch import load_file
    from tiny_data import write_reviews

    data = write_reviews(folder / "reviews.csv")
    script = folder / "distil.py"
    quick = QUICK | {"epochs": 2, "warmup": 0}
    tests = str(Path(__file__).parent)
    script.write_text(
        LAUNCHED.format(
            tests=tests, quick=quick, more=more_text(folder), teacher=str(folder / "teacher"), data=str(data)
        )
    )
    # Without `--multi_gpu` accelerate starts one process where there is no GPU. Port 0 is any free one.
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0".split()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, command in (("one", []), ("two", launch)):
        done = subprocess.run(
            [sys.executable, *command, str(script), str(folder / name)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"processes {1 if name == 'one' else 2}" in done.stdout
    one, two = (load_file(folder / name / "model.safetensors") for name in ("one", "two"))
    before = {
        name: value
        for name, value in load_file(folder / "teacher" / "model.safetensors").items()
        if name in one
    }
    moved = {name: one[name] for name in before if "layer" not in name}
    assert distance(moved, before) > 1e-4
    assert distance(one, two) < 0.02 * distance(moved, before)
