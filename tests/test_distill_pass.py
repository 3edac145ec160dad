"""Whole distillations of tiny models: what is matched, who teaches, on which text."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from tiny_data import tiny_data
from tiny_distillation import QUICK, TASK, answers_file, checked, distance, distilled
from tiny_models import WORDS, tiny_artifact, tiny_model, tiny_tokenizer

from compress.artifact import save
from compress.data import TextData
from compress.data.augmentation import WordSwap, augment
from compress.distillation.answers import as_logits, read_answers
from compress.distillation.objective import DistillationObjective
from compress.errors import InputError
from compress.passes.base import Context
from compress.passes.distill import Distill

EVERYTHING = [
    {"objective": "hidden"},
    {"objective": "embedding"},
    {"objective": "attention", "layers": "last"},
    {"objective": "relations"},
    {"objective": "sentence"},
]


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_each_objective_changes_what_is_learned_and_leaves_nothing_behind(folder):
    plain, _ = distilled(folder)
    for options in EVERYTHING:
        matched, _ = distilled(folder, options["objective"], match=[options])
        assert set(matched) == set(plain)
        assert not same(matched, plain), options


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2"])
def test_attention_maps_are_matched_where_a_model_shows_them_on_request_alone(folder, family):
    # The dev split is scored after the epoch without asking for maps.
    plain, _ = distilled(folder, model=tiny_model(family))
    matched, _ = distilled(folder, "maps", model=tiny_model(family), match=[EVERYTHING[2]])
    assert not same(matched, plain)


def test_answers_during_training_teach_what_cached_ones_do(folder):
    before, _ = distilled(folder, "before", learning_rate=1e-12)
    for name, match, share in (("plain", [], 0.02), ("inside", EVERYTHING, 0.1)):
        cached, _ = distilled(folder, f"{name}-cached", match=match)
        live, _ = distilled(folder, f"{name}-live", match=match, cache=False)
        # What is inside is kept in bfloat16, three digits; Adam's first steps show a gradient's sign, not its size.
        assert distance(cached, live) < share * distance(cached, before), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("cache", [True, False])
def test_a_gpu_learns_what_a_cpu_does(folder, cache):
    before, _ = distilled(folder, "before", learning_rate=1e-12)
    one, _ = distilled(folder, "cpu", match=EVERYTHING, cache=cache)
    other, _ = distilled(folder, "cuda", match=EVERYTHING, cache=cache, device="cuda")
    assert distance(one, other) < 0.1 * distance(one, before)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(folder, monkeypatch, side):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    artifact = tiny_artifact(tiny_model("llama")).evolve(tokenizer=tokenizer)
    save(artifact, folder / "llama")
    texts = [" ".join(WORDS[: 2 + i % 7]) for i in range(24)]
    split = datasets.Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(24)]})
    data = TextData("lengths", split, split, split, TASK.labels, False, "lengths", ())
    context = Context(seed=0, workdir=folder / "work", data=data, input_folder=folder / "teacher")
    inside = [{"objective": "hidden"}, {"objective": "relations"}]
    options = QUICK | {"kd_weight": 1, "cache": False, "learning_rate": 1e-12, "match": inside}
    losses, forward = [], DistillationObjective.forward
    monkeypatch.setattr(
        DistillationObjective,
        "forward",
        lambda *given: (losses.append(forward(*given)), losses[-1])[1],
    )
    Distill(**options, teacher=str(folder / "llama")).apply(artifact, context)
    assert len(losses) == 3
    assert max(losses) < 1e-6


def test_a_student_of_another_width_is_matched_through_projections(folder, monkeypatch):
    import tiny_models

    monkeypatch.setattr(tiny_models, "SIZE", tiny_models.SIZE | {"hidden_size": 16, "intermediate_size": 24})
    narrow = tiny_model("distilbert", layers=2)
    matched, _ = distilled(
        folder,
        model=narrow,
        teacher=str(folder / "teacher"),
        match=[{"objective": "hidden"}, {"objective": "relations"}, {"objective": "sentence"}],
    )
    assert matched["classifier.weight"].shape[-1] == 16
    assert not any("objective" in name for name in matched)


def test_the_teacher_labels_text_without_labels(folder):
    plain, _ = distilled(folder)
    (folder / "more.txt").write_text(
        "".join(
            f"{a} {b} {c}\n"
            for a in ("good", "bad")
            for b in ("plot", "cast")
            for c in ("is fine", "was dull", "very bright")
        )
    )
    more, notes = distilled(
        folder, "more", unlabelled=str(folder / "more.txt"), match=[{"objective": "hidden"}]
    )
    assert not same(plain, more)
    assert any("12 of 12 unlabelled texts" in note for note in notes), notes
    (folder / "again.txt").write_text("the film is very good\n")
    sources = [str(folder / name) for name in ("more.txt", "again.txt")]
    _, notes = distilled(folder, "two", unlabelled=sources)
    assert [note for note in notes if "unlabelled texts" in note] == [
        f"{sources[0]}: 12 of 12 unlabelled texts",
        f"{sources[1]}: 1 of 1 unlabelled texts",
    ]
    made, notes = distilled(folder, "made", augment=[{"method": "word-swap", "copies": 1}])
    assert not same(plain, made)
    assert any("word-swap" in note for note in notes), notes


def test_a_run_is_made_again_where_a_file_of_its_unlabelled_text_is_another(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    more = folder / "more"
    for name in ("more/one.txt", "more/two.txt", "more/notes.md", "parts/train.txt", "parts/test.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("good plot\n")
    tiny_data().train.save_to_disk(folder / "saved")
    (more / "deeper").mkdir()

    def read(source):
        files = Distill(student="teacher:1", unlabelled=source).input_files()
        return [str(file.relative_to(folder)) for file in files]

    assert read(str(more)) == read("~/more") == ["more/one.txt", "more/two.txt"]
    assert read("~/parts") == ["parts/train.txt"]
    assert read("~/more/one.txt") == ["more/one.txt"]
    assert any(name.endswith(".arrow") for name in read("~/saved"))
    assert read("film-reviews") == []


def test_new_texts_may_be_others_in_every_epoch(folder):
    made = [{"method": "word-swap", "rate": 0.5}]
    once, notes = distilled(folder, "once", augment=made, epochs=2)
    anew, more_notes = distilled(folder, "anew", augment=made, augment_anew=True, epochs=2)
    again, _ = distilled(folder, "again", augment=made, augment_anew=True, epochs=2)
    assert not same(once, anew)
    assert same(anew, again)
    assert sum("augmentation" in note for note in notes) == 1
    assert sum("augmentation" in note for note in more_notes) == 2
    assert "augment_anew without augment" in checked(student="teacher:1", augment_anew=True)
    first, second = (
        set(augment(tiny_data().train, [WordSwap(rate=0.5)], 0, "x", draw=draw).data["text"])
        for draw in (0, 1)
    )
    assert first - second
    assert second - first


def test_a_teacher_that_does_not_count_is_not_asked(folder, monkeypatch):
    faint, _ = distilled(folder, "faint", kd_weight=1e-30)

    def asked(*_):
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr("compress.distillation.teacher.Teacher.signals", asked)
    alone, notes = distilled(folder, "alone", kd_weight=0)
    assert same(alone, faint)
    assert "no teacher was asked" in notes[0]
    for options in ({"kd_weight": (0, 1)}, {"kd_weight": 0, "match": [{"objective": "hidden"}]}):
        with pytest.raises(AssertionError, match="was asked"):
            distilled(folder, "asked", **options)


def test_a_second_teacher_is_heard(folder):
    save(tiny_artifact(tiny_model("distilbert", seed=3)), folder / "second")
    alone, _ = distilled(folder)
    both, notes = distilled(folder, "both", teachers=[str(folder / "second")], teacher_weights=[3, 1])
    assert not same(alone, both)
    assert [note for note in notes if note.startswith("teacher:")][-1].endswith("second (25%)")
    by_dev, _ = distilled(folder, "dev", teachers=[str(folder / "second")], teacher_weights="dev")
    assert not same(alone, by_dev)


def test_a_file_of_answers_teaches(folder):
    texts = sorted(set(tiny_data().train["text"]))
    file = answers_file(folder / "answers.csv", texts, [(0.9, 0.1)] * len(texts))
    student, notes = distilled(
        folder,
        model=tiny_model("bert", layers=1),
        teacher=str(file),
        kd_weight=1,
        epochs=20,
        learning_rate=5e-3,
    )
    assert any("answers.csv" in note for note in notes)
    model = tiny_model("bert", layers=1)
    model.load_state_dict(student)
    with torch.inference_mode():
        said = model(**tiny_tokenizer()(texts, padding=True, return_tensors="pt")).logits.softmax(-1)
    assert 0.75 < said[:, 1].mean().item() < 0.95, "0.9 is asked for; positive is the second label"


def test_logits_and_probabilities_are_told_apart():
    import numpy as np

    given = as_logits(np.array([[0.9, 0.1], [0.25, 0.75]]))
    np.testing.assert_allclose(np.exp(given), [[0.9, 0.1], [0.25, 0.75]], rtol=1e-6)
    logits = np.array([[2.0, -1.0], [0.25, 0.75]])
    assert as_logits(logits).tolist() == logits.tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,positive,negative\ngood film,1,x\n", "no finite number.*line 2"),
        ("text,positive\ngood film,1\n", "labels differ"),
        ("words,positive,negative\ngood,1,0\n", "no column 'text'"),
    ],
)
def test_answers_that_cannot_be_read_are_refused(rows, message, tmp_path):
    (tmp_path / "answers.csv").write_text(rows)
    with pytest.raises(InputError, match=message):
        read_answers(tmp_path / "answers.csv", TASK)


def test_a_text_without_an_answer_is_refused(folder):
    file = answers_file(folder / "answers.csv", ["good film"], [(1, 0)])
    with pytest.raises(InputError, match="of 48 training texts have no answer, the first is"):
        distilled(folder, model=tiny_model("bert", layers=1), teacher=str(file))


def test_what_human_raters_said_is_a_distribution(monkeypatch):
    from compress.data import packaged
    from compress.distillation.answers import ratings

    votes = {"good film": (1.0, 7.0), "dull plot": (8.0, 0.0)}
    monkeypatch.setattr(packaged, "read_votes", lambda name: (("negative", "positive"), votes))
    answers = ratings("movie-reviews", TASK)
    data = datasets.Dataset.from_dict({"text": ["dull plot", "good film"]})
    # (v + ½) / (8 + 1): 8.5 and ½ of 9; 1.5 and 7.5 of 9.
    assert answers.of(data)[0].softmax(-1).tolist() == pytest.approx([8.5 / 9, 0.5 / 9])
    assert answers.of(data)[1].softmax(-1).tolist() == pytest.approx([1.5 / 9, 7.5 / 9])


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_distill_pass import distilled
from safetensors.torch import save_file
from compress.training.trainer import ObjectiveTrainer
kill, steps, step = int(sys.argv[1]), [], ObjectiveTrainer.training_step
def counted(*given):
    steps.append(1)
    if len(steps) == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*given)
ObjectiveTrainer.training_step = counted
weights, _ = distilled(Path({folder!r}), "resumed", epochs=4, match=[{{"objective": "hidden"}}], dropout=0.1)
save_file({{name: value.contiguous().clone() for name, value in weights.items()}}, {out!r})
print(len(steps))
"""


def test_a_run_that_was_killed_at_any_step_goes_on_to_the_same_weights(folder):
    from safetensors.torch import load_file

    whole, _ = distilled(folder, "whole", epochs=4, match=[{"objective": "hidden"}], dropout=0.1)
    out = folder / "student.safetensors"
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder), out=str(out))

    def run(kill):
        command = [sys.executable, "-c", script, str(kill)]
        return subprocess.run(command, check=False, env=os.environ.copy(), capture_output=True, text=True)

    kill = random.SystemRandom().randint(1, 24)  # six steps an epoch, each of which is a checkpoint
    assert run(kill).returncode == -signal.SIGKILL
    assert not out.exists()
    again = run(0)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout.splitlines()[-1]) == 24 - (kill - 1) // 6 * 6, f"killed at step {kill}"
    resumed = load_file(out)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items()), f"killed at step {kill}"
