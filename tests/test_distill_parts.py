"""Steps that several parts or processes share: the weights are those of whole batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_task_embedding import rows as pairs
from test_task_tokens import tag_of
from tiny_distillation import QUICK, distance, distilled
from tiny_models import tiny_model
from tiny_tasks import SENTENCES, bare_model, write_jsonl

from compress.artifact import load, save
from compress.data import DataConfig, load_data
from compress.passes.base import Context
from compress.passes.distill import Distill
from compress.passes.finetune import task_of
from compress.tasks import Task
from compress.training.objective import EXAMPLES, LABELS, SHARES, TOKENS, TaskObjective
from compress.training.parameters import unread_frozen
from compress.training.trainer import ObjectiveTrainer


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


def test_a_part_counts_by_what_it_has_of_its_own_step():
    from accelerate import Accelerator

    task = Task(kind="classification", labels=("a", "b"))
    trainer = object.__new__(ObjectiveTrainer)
    trainer.model_accepts_loss_kwargs, trainer.compute_loss_func = False, None
    trainer.accelerator, trainer.objective = Accelerator(cpu=True), TaskObjective(task)

    def shares(*labels):
        parts = [
            {"labels": torch.tensor(some), "attention_mask": torch.ones(len(some), 3), "targets": {}}
            for some in labels
        ]
        found, _ = trainer.get_batch_samples(iter(parts), len(parts), torch.device("cpu"))
        return [part["targets"].get(SHARES) for part in found]

    # One label and three on average 2; two examples and three on average 2½, and so are their tokens.
    assert shares([1, -100], [0, 1, 1]) == [
        pytest.approx({LABELS: 0.5, EXAMPLES: 0.8, TOKENS: 0.8}),
        pytest.approx({LABELS: 1.5, EXAMPLES: 1.2, TOKENS: 1.2}),
    ]
    assert shares([-100], [-100])[0][LABELS] == 0
    assert shares([-100, 0]) == [None], "a step of one part is not weighed by the step before"


def varied_texts(count):
    """Texts of 2 to 14 words, so that parts of a step differ in their tokens."""
    return [" ".join(["the", *SENTENCES[i % len(SENTENCES)].split() * 3][: 2 + i % 13]) for i in range(count)]


def rows_of(kind):
    texts = varied_texts(53)
    if kind == "tokens":
        return [{"tokens": t.split(), "ner_tags": [tag_of(word) for word in t.split()]} for t in texts]
    if kind == "questions":
        contexts = [f"a {text}" for text in texts]
        return [
            {
                "question": "the film was",
                "context": context,
                "answers": {"text": ["the"], "answer_start": [context.index("the")]},
            }
            for context in contexts
        ]
    return [{"text": text, "label": "ab"[len(text) % 2]} for text in texts]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("tokens", {"kd_weight": 1}),
        ("tokens", {"cache": False}),
        ("questions", {}),
        ("classification", {"match": [{"objective": "relations"}, {"objective": "attention"}]}),
        ("classification", {"match": [{"objective": "sentence"}]}),
        ("classification", {"match": [{"objective": "hidden"}], "kd_weight": 0}),
        ("classification", {"match": [{"objective": "hidden"}], "student": "new:hidden_size=16"}),
    ],
)
def test_means_over_tokens_are_those_of_the_whole_batch(kind, options, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    data = load_data(DataConfig(source=str(write_jsonl(tmp_path / "x.jsonl", rows_of(kind))), task=kind))
    assert len(data.train) % 8 > 2, "a short last step"
    model = load(bare_model(tmp_path / "bare"), task_of(data, 24))
    torch.manual_seed(0)
    for parameter in model.model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    save(model, tmp_path / "teacher")

    def weights(name, **more):
        context = Context(0, tmp_path / name, data, input_folder=tmp_path / "teacher")
        torch.manual_seed(0)
        pass_ = Distill(**(QUICK | {"student": "teacher:1", "warmup": 0} | options | more))
        return pass_.apply(load(tmp_path / "teacher"), context).model.state_dict()

    # A softmax sees no shift of all scores: these move by rounding alone.
    shifts = ("key.bias", "qa_outputs.bias", "output.LayerNorm.bias")
    before, whole, parts = (
        {name: value for name, value in each.items() if not name.endswith(shifts)}
        for each in (weights("before", learning_rate=1e-12), weights("whole"), weights("parts", accumulate=2))
    )
    assert distance(whole, parts) < 0.003 * distance(whole, before)


def test_parameters_that_no_answer_reads_are_left_aside():
    from transformers import AutoModel

    model = AutoModel.from_config(tiny_model("bert").config)
    hidden = model(torch.tensor([[4, 5, 6]])).last_hidden_state
    with unread_frozen(model, hidden):
        still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert still == {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(parameter.requires_grad for parameter in model.parameters())


LAUNCHED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from compress import api
from compress.passes.catalog import Distill, Finetune
from compress.pipeline import Step
from compress.processes import count
match = [{{"objective": "hidden", "layers": [[2, 0]]}}]
options = dict(student="teacher:1", match=match, unlabelled={more!r}, **{quick!r})
api.apply([Step(Distill(**options), Path(sys.argv[1]))], {teacher!r}, {data!r})
if count() > 1:  # of an encoder no answer reads the pooler
    encoder = api.DataConfig(source={pairs!r}, task="embedding")
    api.apply([Step(Finetune(**{quick!r}), Path(sys.argv[1] + "-pairs"))], {bare!r}, encoder)
print("processes", count())
"""


def test_two_processes_learn_what_one_does_from_the_same_batches(folder):
    from safetensors.torch import load_file
    from tiny_data import write_reviews

    data = write_reviews(folder / "reviews.csv")
    script = folder / "distil.py"
    quick = QUICK | {"epochs": 2, "warmup": 0}
    script.write_text(
        LAUNCHED.format(
            tests=str(Path(__file__).parent),
            quick=quick,
            more=more_text(folder),
            teacher=str(folder / "teacher"),
            data=str(data),
            pairs=str(write_jsonl(folder / "pairs.jsonl", pairs())),
            bare=bare_model(folder / "bare"),
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
    assert distance(one, two) < 0.003 * distance(moved, before)
