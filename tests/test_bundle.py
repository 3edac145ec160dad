"""A bundle answers as torch does with three packages and no torch, and refuses to run what is not as it was made."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
import torch
from test_benchmark_report import report as bench_report
from test_benchmark_report import row as bench_row
from tiny_models import tiny_model, tiny_tokenizer
from transformers import AutoConfig, AutoTokenizer, BertConfig

from compress.artifact import Artifact, load, read_manifest, save, verify
from compress.benchmark import BenchConfig
from compress.benchmark.targets import onnx_file
from compress.errors import FolderError, InputError
from compress.exporting import export_onnx
from compress.exporting.bundle import write_bundle
from compress.manifest import Manifest, PassRecord
from compress.passes.base import Context, ModelPlan
from compress.passes.export import Export
from compress.quantization import quantize_model
from compress.running import bench_models
from compress.tasks import Task

TEXTS = ["good film", "the cast was dull and the plot was not very bright", "", "fine fine fine"]
PAIRS = [
    ("good film", "bright plot"),
    ("the cast was dull", "a fine film and a very good plot"),
    ("bad", "a b"),
]
LONG = "the cast was good and the plot was bad " * 8  # 72 words; the task takes 24 tokens
PACKAGES = ("numpy", "numpy.libs", "onnxruntime", "tokenizers")


def record(name, **after):
    made = {"config": {"epochs": 2}, "input_hash": "", "seed": 7, "versions": {"torch": "2"}, "seconds": 3}
    return PassRecord(name=name, after=after, **made)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A classifier of single texts and a regression over pairs, with their ONNX files."""
    one = Task(kind="classification", labels=("negative", "positive"), pair=False, max_length=24)
    two = Task(kind="regression", pair=True, max_length=24)
    history = (record("finetune", accuracy=80.0, f1=75.0),)
    found = {}
    for task, labels in ((one, 2), (two, 1)):
        model = tiny_model("bert", layers=1, num_labels=labels)
        manifest = Manifest(source="tiny", task=task, history=history if labels == 2 else ())
        artifact = Artifact(model, tiny_tokenizer(types=True), manifest)
        found[task.kind] = artifact, export_onnx(artifact, tmp_path_factory.mktemp(task.kind))
    return found


@pytest.fixture(scope="module")
def bundles(exported, tmp_path_factory):
    base = tmp_path_factory.mktemp("bundles")
    return {
        kind: write_bundle(artifact, path, base / kind, notes=["parity with torch"], examples=10)
        for kind, (artifact, path) in exported.items()
    }


@pytest.fixture
def bundle(bundles, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(bundles["classification"], tmp_path / "bundle"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with the runner's three packages and nothing else."""
    folder = tmp_path_factory.mktemp("packages")
    site = Path(find_spec("numpy").origin).parents[1]
    for name in PACKAGES:
        if (site / name).exists():
            (folder / name).symlink_to(site / name)
    return folder


def python(packages, *arguments, text=""):
    """Run Python that can import the standard library and `packages` alone."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages)}
    command = [sys.executable, "-S", *map(str, arguments)]
    raw = text if isinstance(text, bytes) else text.encode()
    return subprocess.run(command, input=raw, capture_output=True, env=env, check=False)


def answers(packages, bundle, *arguments, text=""):
    done = python(packages, bundle / "run.py", *arguments, text=text)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def refusal(packages, bundle, *arguments, text="good"):
    """Return the one line on stderr of a run that ends with exit code 2 and without an answer."""
    done = python(packages, bundle / "run.py", *arguments, text=text)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    return line


def torch_logits(artifact, texts, max_length=24):
    rows = []
    for text in texts:
        parts = (text,) if isinstance(text, str) else text
        encoded = artifact.tokenizer(*parts, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            rows.append(artifact.model(**encoded).logits[0].double())
    return torch.stack(rows)


def reseal(bundle):
    """Write SHA256SUMS anew, as one would who changes a bundle on purpose."""
    lines = (bundle / "SHA256SUMS").read_text().splitlines()
    names = [line.split("  ")[1] for line in lines]
    digests = [hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in names]
    sums = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True))
    (bundle / "SHA256SUMS").write_text(sums)


def test_bundle_holds_all_that_it_needs_and_lists_every_file(bundles):
    folder = bundles["classification"]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        "README.md",
        "MODEL_CARD.md",
        "bundle.json",
        "config.json",
        "js/classifier.mjs",
        "manifest.json",
        "node/classify.mjs",
        "node/package.json",
        "onnx/model.onnx",
        "requirements.txt",
        "run.py",
        "tokenizer.json",
        "tokenizer_config.json",
        "web/index.html",
        "web/page.mjs",
        "web/package.json",
        "web/style.css",
        "web/vendor.mjs",
    }
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == names - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_settings_say_how_text_is_read(bundles):
    settings = json.loads((bundles["classification"] / "bundle.json").read_bytes())
    assert settings == {
        "format": 1,
        "name": "tiny",
        "task": "classification",
        "labels": ["negative", "positive"],
        "pair": False,
        "max_length": 24,
        "truncation_side": "right",
        "padding": {"id": 1, "type_id": 0, "side": "right"},
        "model": "onnx/model.onnx",
        "tokenizer": "tokenizer.json",
    }


def test_other_libraries_cut_text_where_the_task_does(exported, bundles):
    artifact, _ = exported["classification"]
    kept = artifact.tokenizer.model_max_length
    tokenizer = AutoTokenizer.from_pretrained(bundles["classification"])
    assert len(tokenizer(LONG, truncation=True)["input_ids"]) == 24
    assert artifact.tokenizer.model_max_length == kept != 24


def test_compress_reads_the_bundle_too(bundles):
    folder = bundles["classification"]
    manifest = verify(folder)
    assert manifest.task.max_length == 24
    assert [step.name for step in manifest.history] == ["finetune"]
    assert onnx_file(folder) == folder / "onnx/model.onnx"


def test_bundle_can_be_benched(bundles, tmp_path):
    config = BenchConfig(
        runtimes=("onnxruntime",), batch_sizes=(1,), sequence_lengths=(8,), rounds=1, seconds=0.2
    )
    report = bench_models([str(bundles["classification"])], config, None, tmp_path / "out")
    assert [(row.name, row.runtime) for row in report.rows] == [("classification", "onnxruntime")]


def test_config_is_the_familys_own(tmp_path):
    model = tiny_model("bert", layers=1)
    quantize_model(model)
    task = Task(kind="classification", labels=("no", "yes"))
    artifact = Artifact(model, tiny_tokenizer(), Manifest(task=task))
    save(artifact, tmp_path / "int8")
    assert "quantization_config" in json.loads((tmp_path / "int8/config.json").read_bytes())
    (tmp_path / "model_quantized.onnx").write_bytes(b"only copied here")
    folder = write_bundle(load(tmp_path / "int8"), tmp_path / "model_quantized.onnx", tmp_path / "bundle")
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is BertConfig
    assert not hasattr(config, "quantization_config")
    assert config.architectures == ["BertForSequenceClassification"]
    assert config.id2label == {0: "no", 1: "yes"}
    assert "dtype: 'q8'" in (folder / "README.md").read_text()


def test_runner_answers_as_torch_without_torch(exported, bundles, packages):
    found = python(packages, "-c", "import torch")
    assert b"No module named 'torch'" in found.stderr
    artifact, _ = exported["classification"]
    expected = torch.softmax(torch_logits(artifact, [*TEXTS, LONG]), 1)
    for given in (
        answers(packages, bundles["classification"], *TEXTS, LONG, "--threads", "2"),
        answers(packages, bundles["classification"], text="\n".join([*TEXTS, LONG]) + "\n"),
        answers(packages, bundles["classification"], "--batch-size", "5", text="\n".join([*TEXTS, LONG])),
    ):
        scores = torch.tensor([list(answer["scores"].values()) for answer in given], dtype=torch.float64)
        assert torch.allclose(scores, expected, atol=1e-5)
        labels = [artifact.task.labels[i] for i in expected.argmax(1)]
        assert [answer["label"] for answer in given] == labels
        assert all(answer["score"] == max(answer["scores"].values()) for answer in given)


def test_runner_reads_pairs_and_answers_with_a_number(exported, bundles, packages, tmp_path):
    artifact, _ = exported["regression"]
    pairs = [*PAIRS, (LONG, "good film"), ("good film", LONG), (LONG, LONG)]
    expected = torch_logits(artifact, pairs)[:, 0]
    words = [text for pair in pairs for text in pair]
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"{one}\t{other}\n" for one, other in pairs))
    for arguments in (words, ["--file", file], ["--file", file, "--batch-size", "6"]):
        given = answers(packages, bundles["regression"], *arguments)
        values = torch.tensor([answer["value"] for answer in given], dtype=torch.float64)
        assert torch.allclose(values, expected, atol=1e-5)


def test_several_labels_are_those_above_one_half(exported, tmp_path, packages):
    artifact, path = exported["classification"]
    several = artifact.evolve(task=artifact.task.model_copy(update={"kind": "multilabel"}))
    folder = write_bundle(several, path, tmp_path / "bundle")
    expected = torch.sigmoid(torch_logits(artifact, TEXTS))
    given = answers(packages, folder, *TEXTS)
    scores = torch.tensor([list(answer["scores"].values()) for answer in given], dtype=torch.float64)
    assert torch.allclose(scores, expected, atol=1e-5)
    for answer, row in zip(given, expected, strict=True):
        assert answer["labels"] == [name for name, p in zip(answer["scores"], row, strict=True) if p >= 0.5]


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "bundle.json"])
def test_changed_byte_is_refused(bundle, packages, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    line = refusal(packages, bundle)
    assert f"{name}: the file was changed, its sha256 differs. Copy the bundle again." in line


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "bundle.json", "SHA256SUMS"])
def test_missing_file_is_refused(bundle, packages, name):
    (bundle / name).unlink()
    assert f"error: {name}: " in refusal(packages, bundle)


def test_verify_looks_at_all_files(bundle, packages):
    done = python(packages, bundle / "run.py", "--verify")
    count = len((bundle / "SHA256SUMS").read_text().splitlines())
    assert (done.returncode, done.stdout.decode()) == (0, f"all {count} files are as they were made\n")
    (bundle / "MODEL_CARD.md").write_text("the best model")
    assert len(answers(packages, bundle, "good")) == 1  # a run checks what it loads
    assert "MODEL_CARD.md: the file was changed" in refusal(packages, bundle, "--verify")


@pytest.mark.parametrize("kept", [0, 1000])
def test_file_that_is_not_onnx_is_refused(bundle, packages, kept):
    model = bundle / "onnx/model.onnx"
    model.write_bytes(model.read_bytes()[:kept])
    reseal(bundle)
    assert "model.onnx: not a whole ONNX file" in refusal(packages, bundle)


def test_name_that_leads_out_of_the_bundle_is_refused(bundle, packages, tmp_path):
    shutil.copyfile(bundle / "onnx/model.onnx", tmp_path / "model.onnx")
    settings = json.loads((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_text(json.dumps(settings | {"model": "../model.onnx"}))
    digest = hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    reseal(bundle)
    with (bundle / "SHA256SUMS").open("a") as sums:
        sums.write(f"{digest}  ../model.onnx\n")
    assert "../model.onnx: the name leads out of the bundle" in refusal(packages, bundle)
    assert "../model.onnx: the name leads out of the bundle" in refusal(packages, bundle, "--verify")


def test_link_that_leads_out_of_the_bundle_is_refused(bundle, packages, tmp_path):
    (bundle / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (bundle / "tokenizer.json").symlink_to(tmp_path / "tokenizer.json")
    assert "tokenizer.json: the name leads out of the bundle" in refusal(packages, bundle)


def test_opset_that_the_runtime_lacks_is_refused(bundle, packages):
    model = onnx.load(bundle / "onnx/model.onnx")
    model.opset_import[0].version = 99
    onnx.save(model, bundle / "onnx/model.onnx")
    reseal(bundle)
    line = refusal(packages, bundle)
    assert "is too old for it" in line
    assert "pip install --upgrade onnxruntime" in line


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["one", "two", "three"], "", "reads pairs of texts. Give them two by two"),
        ([], "first\tsecond\nalone\n", "line 2: the model reads pairs"),
        ([], b"caf\xe9\tb\n", "stdin: is not UTF-8 text"),
        (["--file", "missing.txt"], "", "missing.txt: cannot be read"),
    ],
)
def test_wrong_input_is_refused(bundles, packages, arguments, text, message):
    done = python(packages, bundles["regression"] / "run.py", *arguments, text=text)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1


def test_missing_package_names_the_command(bundles, tmp_path):
    done = python(tmp_path, bundles["classification"] / "run.py", "good")
    assert done.returncode == 2
    assert "onnxruntime is not installed. Run: pip install -r" in done.stderr.decode()


def test_card_tells_score_interval_steps_and_export(bundles):
    card = (bundles["classification"] / "MODEL_CARD.md").read_text()
    # 8 of 10 right: (0.8 + z²/20 ± z √(0.8·0.2/10 + z²/400)) / (1 + z²/10) with z = 1.96: 0.490 and 0.943
    assert "| accuracy |  80.0 | 49.0 to 94.3 |" in card
    assert "1. **finetune** (epochs 2), seed 7, 3 s; accuracy on dev 80.0" in card
    assert "- parity with torch" in card
    assert "No score is recorded" in (bundles["regression"] / "MODEL_CARD.md").read_text()
    assert "No bench came with this bundle" in (bundles["classification"] / "README.md").read_text()


def test_pass_adds_the_bundle_to_the_folder(exported, tmp_path, monkeypatch):
    artifact, path = exported["classification"]

    def export(artifact, folder, notes, *options):
        notes.append("parity with torch")
        return path

    monkeypatch.setattr("compress.exporting.export_onnx", export)
    table = tmp_path / "report.json"
    table.write_text(bench_report(bench_row("teacher"), bench_row("small", p50=5.0)).model_dump_json())
    context = Context(seed=0, workdir=tmp_path / "work")
    stale = tmp_path / "work/bundle"
    stale.mkdir(parents=True)
    made = Export(bundle=True, report=table).apply(artifact, context)
    assert context.notes[-1].startswith("bundle: ")
    save(made, tmp_path / "out")
    assert {name.split("/")[0] for name in load(tmp_path / "out").attachments} == {"onnx", "bundle"}
    assert "bundle/manifest.json" in read_manifest(tmp_path / "out").files
    assert "| small   | torch   |" in (tmp_path / "out/bundle/README.md").read_text()
    assert "- parity with torch" in (tmp_path / "out/bundle/MODEL_CARD.md").read_text()
    (tmp_path / "out/bundle/run.py").write_text("print('something else')")
    with pytest.raises(FolderError, match="run.py: the file was truncated or altered"):
        verify(tmp_path / "out")


def test_pass_refuses_what_makes_no_bundle(tmp_path):
    plan = ModelPlan(config=None, task=None, data=None, place="passes[0] (export)")
    Export(bundle=True).check(plan)
    Export(report=tmp_path / "none.json").check(plan)
    (tmp_path / "other.json").write_text("{}")
    Export(bundle=True, report=tmp_path / "other.json").check(plan)
    text = "\n".join(plan.errors)
    assert "passes[0] (export): a bundle needs a model with a trained head" in text
    assert "a report goes into a bundle, and none is asked for" in text
    assert "none.json: cannot be read as a bench's report (No such file or directory)" in text
    assert "other.json: cannot be read as a bench's report" in text


def test_tokenizer_without_a_file_of_its_own_is_refused(exported, tmp_path, monkeypatch):
    artifact, path = exported["classification"]
    monkeypatch.setattr(artifact.tokenizer, "save_pretrained", lambda folder: None, raising=False)
    with pytest.raises(InputError, match="cannot be written as tokenizer.json"):
        write_bundle(artifact, path, tmp_path / "bundle")
