"""A bundle's example for Node answers as torch does."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from test_bundle import torch_logits
from tiny_models import tiny_model
from tiny_tokenizers import SENTENCES, trained_tokenizer

from compress.artifact import Artifact
from compress.exporting import export_onnx
from compress.exporting.bundle import write_bundle
from compress.manifest import Manifest
from compress.tasks import Task


@pytest.fixture(scope="module")
def node_modules():
    """The npm packages that `python -m bench.runtimes` installs, or those that NODE_MODULES names."""
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    made = Path(__file__).parents[1] / "runs" / "runtimes" / "environments"
    named = os.environ.get("NODE_MODULES")
    folders = [Path(named)] if named else sorted(made.glob("node-*/node_modules"))
    for folder in folders:
        if (folder / "onnxruntime-node").is_dir() and (folder / "@huggingface/tokenizers").is_dir():
            return folder
    pytest.skip("no npm packages here: python -m bench.runtimes installs them, or set NODE_MODULES")


def test_node_answers_as_torch(node_modules, tmp_path):
    tokenizer = trained_tokenizer("bert")
    task = Task(kind="regression", pair=True, max_length=24)
    artifact = Artifact(
        tiny_model("bert", layers=1, num_labels=1, tokenizer=tokenizer), tokenizer, Manifest(task=task)
    )
    path = export_onnx(artifact, tmp_path)
    long = " ".join(SENTENCES[:4])
    pairs = [
        (SENTENCES[0], SENTENCES[1]),
        (long, SENTENCES[1]),
        (SENTENCES[2], long),
        (long, f"{long} {long}"),
    ]
    lines = "".join(f"{one}\t{other}\n" for one, other in pairs)
    for side in ("right", "left"):
        tokenizer.truncation_side = side
        folder = write_bundle(artifact, path, tmp_path / side)
        (folder / "node/node_modules").symlink_to(node_modules)
        command = ["node", folder / "node/classify.mjs"]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        values = [json.loads(line)["value"] for line in done.stdout.splitlines()]
        expected = torch_logits(artifact, pairs)[:, 0]
        assert torch.allclose(torch.tensor(values, dtype=torch.float64), expected, atol=1e-5)
