"""Chains: what is refused before anything runs, what is skipped, what goes on after a kill."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_data import write_reviews
from tiny_models import logits, tiny_artifact, tiny_model
from transformers import AutoModelForSequenceClassification

from compress import pipeline, running
from compress.artifact import load, read_manifest, save
from compress.data import DataConfig
from compress.errors import FolderError, InputError
from compress.passes.distill import Distill
from compress.passes.export import Export
from compress.passes.factorize import Factorize
from compress.passes.finetune import Finetune
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.pipeline import Step
from compress.recipe import Recipe

RECIPES = Path(__file__).parents[1] / "recipes"

TRAIN = {"epochs": 1, "max_length": 16, "bf16": False}
EVERY = {
    "finetune": Finetune(**TRAIN),
    "distill": Distill(student="teacher:1", **TRAIN),
    "prune": Prune(ffn=0.5, criterion="magnitude"),
    "factorize": Factorize(keep=0.5, method="plain"),
    "quantize": Quantize(),
    "export": Export(),
}


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    save(tiny_artifact(tiny_model("bert")), tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def data(tmp_path):
    return DataConfig(source=str(write_reviews(tmp_path / "reviews.csv")))


def steps(tmp_path, *passes):
    return [Step(step, tmp_path / f"{number:02d}-{step.name}") for number, step in enumerate(passes, 1)]


def run(chain, tmp_path):
    return pipeline.run(chain, tmp_path / "work")


REFUSED = {
    "quantize": {
        "finetune": "int8 weights cannot be trained. Put quantize after finetune, distill, prune and factorize.",
        "distill": "int8 weights cannot be trained. Put quantize after finetune, distill, prune and factorize.",
        "prune": "a quantized model cannot be pruned. Put prune before quantize and export.",
        "factorize": "a quantized model cannot be factorized. Put factorize before quantize and export.",
        "quantize": "the model is quantized already. Drop this pass.",
    },
    "export": {
        "finetune": "a model cannot be trained after export. Put export last.",
        "distill": "a model cannot be trained after export. Put export last.",
        "prune": "an exported model cannot be pruned. Put prune before quantize and export.",
        "factorize": "an exported model cannot be factorized. Put factorize before quantize and export.",
        "quantize": "an exported model cannot be quantized. Put quantize before export.",
        "export": "the model is exported already. Keep one export, as the last pass.",
    },
}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(EVERY, EVERY)))
def test_orders_that_cannot_work_are_refused_with_the_one_that_does(first, second, model, data, tmp_path):
    chain = steps(tmp_path, EVERY[first], EVERY[second])
    message = REFUSED.get(first, {}).get(second)
    if message is None:
        assert len(pipeline.plan(model, chain, data).steps) == 2
        return
    with pytest.raises(InputError) as caught:
        pipeline.plan(model, chain, data)
    assert str(caught.value) == f"passes[1] ({second}): {message}"
    assert not chain[0].folder.exists()


def test_everything_that_is_wrong_is_told_at_once(model, data, tmp_path):
    (tmp_path / "03-quantize").mkdir()
    (tmp_path / "03-quantize" / "thesis.txt").touch()
    chain = steps(tmp_path, Distill(student="teacher:9"), Distill(), Quantize(), Prune(), Export())
    with pytest.raises(InputError) as caught:
        pipeline.plan(model, chain, data)
    message = str(caught.value)
    for part in (
        "passes[0] (distill): teacher:9, but the teacher has 3 layers",
        "passes[1] (distill): give either a student or a teacher",
        "passes[3] (prune): a quantized model cannot be pruned",
        "passes[3] (prune): nothing to prune",
        "03-quantize: the folder holds something else (thesis.txt)",
    ):
        assert part in message, message


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Distill(teacher="step:1"), "step:1 is not a pass before this one"),
        (Distill(student="no-such-model"), "no-such-model"),
        (Distill(student="teacher:x"), "Write `teacher:3`"),
        (Prune(layers=3), "the model has 3"),
    ],
)
def test_a_pass_that_does_not_fit_the_model_is_refused(step, message, model, data, tmp_path):
    with pytest.raises(InputError, match=message):
        pipeline.plan(model, steps(tmp_path, step), data)


def test_an_int8_student_is_refused_and_an_int8_teacher_is_not(model, data, tmp_path):
    run(pipeline.plan(model, [Step(Quantize(), tmp_path / "int8")], data), tmp_path)
    small = str(tmp_path / "int8")
    with pytest.raises(InputError, match="int8 weights cannot be trained. Give the student as it was before"):
        pipeline.plan(model, steps(tmp_path, Distill(student=small)), data)
    with pytest.raises(InputError, match="int8 weights cannot be trained"):
        pipeline.plan(small, steps(tmp_path, Distill(student="teacher:1")), data)
    assert pipeline.plan(small, steps(tmp_path, Distill(student=model)), data)


def test_pairs_for_a_model_of_single_texts_are_refused(model, tmp_path):
    pairs = DataConfig(source=str(write_reviews(tmp_path / "pairs.csv", pair=True)))
    assert pipeline.plan(model, steps(tmp_path, Quantize()), pairs), (
        "a model of unknown origin may read either"
    )
    artifact = load(model)
    save(artifact.evolve(task=artifact.task.model_copy(update={"pair": False})), tmp_path / "single")
    with pytest.raises(InputError, match="the model reads single texts, the data holds text pairs"):
        pipeline.plan(str(tmp_path / "single"), steps(tmp_path, Quantize()), pairs)


def test_training_without_data_is_refused(model, tmp_path):
    with pytest.raises(InputError, match="training needs data"):
        pipeline.plan(model, steps(tmp_path, Finetune()), None)


def test_labels_of_model_and_data_that_differ_are_refused(model, tmp_path):
    other = write_reviews(tmp_path / "other.csv", labels=("cat", "dog"))
    with pytest.raises(InputError, match=r"labels differ: \[cat, dog\] against \[negative, positive\]"):
        pipeline.plan(model, steps(tmp_path, Quantize()), DataConfig(source=str(other)))


def test_a_teacher_with_other_labels_is_refused(model, data, tmp_path):
    from compress.tasks import Task

    task = Task(kind="classification", labels=("cat", "dog"))
    save(tiny_artifact(tiny_model("bert")).evolve(task=task), tmp_path / "other")
    with pytest.raises(InputError, match=r"labels differ: \[cat, dog\] against \[negative, positive\]"):
        pipeline.plan(model, steps(tmp_path, Distill(teacher=str(tmp_path / "other"))), data)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_runs_on_a_tiny_model_and_every_step_reloads(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    save(tiny_artifact(tiny_model("bert", layers=6)), tmp_path / "model")
    trained = [i for i, step in enumerate(Recipe.read(recipe).passes) if isinstance(step, Finetune | Distill)]
    small = [f"model={tmp_path / 'model'}", f"data={data.source}", "bench=null"]
    small += [f"passes.{i}.epochs=1" for i in trained]
    result = running.run(Recipe.read(recipe, small), tmp_path / "run")
    assert not (tmp_path / "run" / ".work").exists()
    for folder in result.steps:
        ours, plain = load(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
        assert torch.equal(logits(ours.model), logits(plain))
    last = load(result.steps[-1]).manifest
    assert [record.name for record in last.history] == [folder.name[3:] for folder in result.steps]
    assert all("accuracy" in record.after for record in last.history)
    assert last.history[-2].before == last.history[-3].after
    assert last.task.labels == ("negative", "positive")
    assert list(result.steps[-1].glob("onnx/*.onnx"))


def test_a_finished_step_is_skipped_and_a_changed_one_is_not(model, data, tmp_path):
    def manifests(seed=0, ffn=0.5):
        prune = Prune(ffn=ffn, criterion="magnitude")
        folders = run(pipeline.plan(model, steps(tmp_path, prune, Quantize()), data, seed), tmp_path)
        return [(folder / "manifest.json").stat().st_mtime_ns for folder in folders]

    first = manifests()
    assert manifests() == first, "nothing changed, nothing runs"
    changed = manifests(ffn=0.25)
    assert changed[0] > first[0]
    assert changed[1] > first[1], "a step after a changed one runs again"
    (tmp_path / "02-quantize" / "compressed.safetensors").write_bytes(b"damaged")
    repaired = manifests(ffn=0.25)
    assert repaired[0] == changed[0]
    assert repaired[1] > changed[1]
    load(tmp_path / "02-quantize")
    assert manifests(seed=1, ffn=0.25)[0] > repaired[0]


def test_a_chain_gives_what_its_steps_give_one_at_a_time(model, data, tmp_path):
    # In bfloat16, which the second training of a chain, of a model still in memory, has to run in too.
    options = {"epochs": 1, "learning_rate": 1e-3, "bf16": True}
    passes = (
        Finetune(**options),
        Distill(student="teacher:1", **options),
        Prune(ffn=0.5, criterion="magnitude"),
    )
    whole = run(pipeline.plan(model, steps(tmp_path / "whole", *passes), data), tmp_path)

    source = model
    for folder, each in zip(whole, passes, strict=True):
        source = str(run(pipeline.plan(source, [Step(each, tmp_path / each.name)], data), tmp_path)[-1])
        assert torch.equal(logits(load(source).model), logits(load(folder).model)), each.name


def test_a_changed_data_file_makes_steps_run_again(model, data, tmp_path):
    chain = steps(tmp_path, Prune(ffn=0.5, criterion="magnitude"))
    (folder,) = run(pipeline.plan(model, chain, data), tmp_path)
    before = read_manifest(folder).history[-1].input_hash
    path = tmp_path / "reviews.csv"
    path.write_text(path.read_text() + "the film is bright and fine,positive\n")
    run(pipeline.plan(model, chain, data), tmp_path)
    assert read_manifest(folder).history[-1].input_hash != before


def test_two_runs_in_one_folder_do_not_mix(model, data, tmp_path):
    from filelock import FileLock

    chain = pipeline.plan(model, steps(tmp_path, Quantize()), data)
    (tmp_path / "work").mkdir()
    with (
        FileLock(tmp_path / "work" / "lock"),
        pytest.raises(FolderError, match="another run is writing here"),
    ):
        run(chain, tmp_path)


def test_training_that_was_cut_off_goes_on_and_ends_with_the_same_weights(model, data, tmp_path):
    def start(out):
        command = f"finetune --model {model} --data {data.source} --out {tmp_path / out} --epochs 4 --no-bf16"
        return subprocess.Popen(
            [sys.executable, "-m", "compress", *command.split()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def cut_off(out, number):
        process, deadline = start(out), time.monotonic() + 120
        while not list(tmp_path.glob(f".{out}.work/*/checkpoint-*/trainer_state.json")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        code, message = process.wait(), process.stderr.read()
        assert not (tmp_path / out).exists(), "nothing half-written"
        return code, message

    assert cut_off("killed", signal.SIGKILL)[0] == -signal.SIGKILL
    code, message = cut_off("interrupted", signal.SIGINT)
    assert code == 130
    assert message.endswith("interrupted; the same command goes on from the last checkpoint\n")
    for process in [start("killed"), start("interrupted"), start("whole")]:
        assert process.wait() == 0, process.stderr.read()
    straight = load(tmp_path / "whole")
    for out in ("killed", "interrupted"):
        assert torch.equal(logits(load(tmp_path / out).model), logits(straight.model))
    assert not list(tmp_path.glob(".*.work"))
