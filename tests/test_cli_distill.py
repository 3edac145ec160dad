"""What a distillation cannot use is one message with cause, place and remedy, and nothing is written."""

from pathlib import Path

import pytest
import torch
from test_alignment import letters
from tiny_data import write_reviews
from tiny_models import tiny_artifact, tiny_model, tiny_tokenizer
from tiny_tasks import write_jsonl
from transformers import BertForTokenClassification

from compress.artifact import save
from compress.tasks import Task

pytestmark = pytest.mark.usefixtures("nothing_but_here")
DISTILL = "distill --out new --data d.csv --epochs 1 --no-bf16 --max-length 16".split()


@pytest.fixture
def folder(tmp_path):
    """A good teacher, and data for it."""
    save(tiny_artifact(tiny_model("bert")), tmp_path / "teacher")
    write_reviews(tmp_path / "d.csv")
    return tmp_path


def refused(run, *arguments):
    """Run it and return the message."""
    code, out, err = run(*DISTILL, *arguments)
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err
    assert not Path("new").exists()
    assert not list(Path("cache").rglob("*.tmp"))
    (message,) = (line for line in err.splitlines() if line.startswith("error: "))
    return message


@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_a_teacher_that_yields_nan(folder, run, cache):
    broken = tiny_model("bert")
    broken.classifier.bias.data[0] = torch.nan
    save(tiny_artifact(broken), folder / "nan")
    message = refused(run, "--teacher", "nan", "--student", "teacher:1", cache)
    assert "the teacher answers NaN or infinity for" in message
    assert "Its weights are broken; train it again or give another teacher" in message
    assert not list(Path("cache").rglob("answer-0.npy"))


def test_logits_of_another_width(folder, run):
    save(tiny_artifact(tiny_model("bert", num_labels=3)), folder / "wide")
    message = refused(run, "--teacher", "wide", "--student", "teacher:1")
    assert "wide: its head answers 3 numbers, its task has 2 labels (negative, positive)" in message
    assert "give another one" in message


def test_a_regression_of_several_numbers(folder, run):
    model = tiny_model("bert", num_labels=3)
    model.config.problem_type = "regression"
    artifact = tiny_artifact(model)
    save(artifact.evolve(task=Task(kind="regression")), folder / "wide")
    write_reviews(folder / "d.csv", labels=("0.5", "1.5"))
    message = refused(run, "--teacher", "wide", "--student", "teacher:1")
    assert "wide: its head answers 3 numbers, its task has one number to answer" in message


def test_a_file_of_answers_without_a_class(folder, run):
    Path("answers.csv").write_text("text,negative\nthe film is good,1\n")
    message = refused(run, "--teacher", "answers.csv", "--student", "teacher")
    assert "answers.csv" in message
    assert "positive" in message


def test_a_cache_from_another_teacher(folder, run):
    arguments = [*DISTILL, "--teacher", "teacher", "--student", "teacher:1"]
    assert run(*arguments)[0] == 0
    (own,) = Path("cache").rglob("answer-0.npy")
    write_reviews(folder / "d.csv", labels=("positive", "negative"))
    shorter = Path("d.csv").read_text().splitlines()[:20]
    Path("short.csv").write_text("\n".join(shorter) + "\n")
    assert run(*arguments, "--data", "short.csv", "--out", "other")[0] == 0
    (other,) = set(Path("cache").rglob("answer-0.npy")) - {own}
    other.replace(own)
    Path("new").rename("first")
    write_reviews(folder / "d.csv")
    message = refused(run, "--teacher", "teacher", "--student", "teacher:1")
    assert "damaged, or another teacher's" in message
    assert own.name in message
    assert "Remove this file" in message


def test_a_layer_map_out_of_range(folder, run):
    wrong = "{objective: hidden, layers: [[9, 0]]}"
    message = refused(run, "--teacher", "teacher", "--student", "teacher:1", "--match", wrong)
    assert "the layer map has [9, 0]: the teacher has layers 0 to 2, the student 0 to 0" in message
    assert "`uniform` or `last`" in message


def test_an_empty_transfer_set(folder, run):
    Path("empty.txt").write_text("\n \n")
    arguments = ["--teacher", "teacher", "--student", "teacher:1"]
    message = refused(run, *arguments, "--unlabelled", "empty.txt")
    assert "empty.txt: the transfer set is empty: no text in it" in message


def test_tags_that_do_not_align(folder, run):
    rows = [{"tokens": ["the", "good", "film"], "tags": ["O", "O", "X"]}] * 12
    rows += [{"tokens": ["a", "dull", "plot"], "tags": ["O", "X", "O"]}] * 12
    write_jsonl(folder / "t.jsonl", rows)
    task = Task(kind="tokens", labels=("O", "X"), max_length=16)
    for name, tokenizer in (("tagger", tiny_tokenizer()), ("speller", letters())):
        model = BertForTokenClassification(tiny_model("bert", tokenizer=tokenizer).config).eval()
        save(tiny_artifact(model).evolve(task=task, tokenizer=tokenizer), folder / name)
    arguments = ["--teacher", "speller", "--student", "tagger", "--data"]
    message = refused(run, *arguments, "t.jsonl", "--match", "hidden")
    assert "teacher and student split text differently: 8% of the student's tokens" in message
    assert "take a student with the teacher's tokenizer" in message
    rows[3] = {"tokens": ["a", "dull", "plot"], "tags": ["O", "X"]}
    write_jsonl(folder / "t.jsonl", rows)
    message = refused(run, *arguments, "t.jsonl")
    assert "3 words but 2 tags" in message
    assert "one tag for each word" in message


def test_a_student_cut_from_a_file_of_answers(folder, run):
    Path("answers.csv").write_text("text,negative,positive\nthe film is good,1,2\n")
    message = refused(run, "--teacher", "answers.csv", "--student", "teacher:1")
    assert message == (
        "error: --student: 'teacher:1' is made of the first teacher, and answers.csv is no model. "
        "Name a model as the student, or a model as the first teacher."
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--label", "stars"), "d.csv: there is no column 'stars'. Its columns: text, label"),
        (("--task", "questions"), "d.csv: there is no column 'question'. Its columns: text, label"),
    ],
)
def test_the_teachers_own_data_is_read_as_the_options_say(folder, run, option, message):
    short = ("--epochs", "1", "--no-bf16", "--max-length", "16")
    code, _, err = run("finetune", "--model", "teacher", "--data", "d.csv", "--out", "trained", *short)
    assert code == 0, err
    code, out, err = run("distill", "--teacher", "trained", "--student", "teacher:1", *short, *option)
    assert (code, out, err) == (2, "", f"error: {message}\n")
