"""Run the proof: `python -m bench.runtimes MODEL_FOLDER --work runs/runtimes`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.runtimes import clients
from bench.runtimes.clients import Answers, Client, Place
from bench.runtimes.environments import Missing
from bench.runtimes.report import Row, to_markdown
from compress import api
from compress.artifact import Artifact, load
from compress.data import load_data
from compress.display import say
from compress.errors import InputError
from compress.passes.catalog import Export, Quantize
from compress.pipeline import Step
from compress.tasks.inputs import encode, pad

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "bench" / "results" / "runtimes.md"
PICTURE = ROOT / "docs" / "images" / "browser.png"
PRECISIONS = ("float32", "int8")


def main() -> None:
    """Make a float32 and an int8 bundle, ask every runtime, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of a fine-tuned float32 classifier of single texts")
    parser.add_argument("--work", type=Path, default=Path("runs/runtimes"), help="environments and bundles")
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args()
    work = options.work.absolute()
    rows: list[Row] = []
    for precision in PRECISIONS:
        folder = make(options.model, precision, work)
        artifact = load(folder)
        texts = sentences(artifact, options.sentences)
        bundle = work / "bundles" / precision
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(folder / "bundle", bundle)
        reference = in_torch(artifact, texts)
        rows += list(ask(precision, bundle, work, texts, reference))
    RESULT.write_text(to_markdown(options.model.name, options.sentences, rows), encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


def make(model: Path, precision: str, work: Path) -> Path:
    """Return a folder with an export of the model and a bundle of today's templates."""
    out = work / "exports" / precision
    shutil.rmtree(out, ignore_errors=True)
    export = Step(Export(bundle=True), out)
    steps = [export] if precision == "float32" else [Step(Quantize(), work / "exports" / "weights"), export]
    api.apply(steps, model)
    return out


def sentences(artifact: Artifact, count: int) -> list[str]:
    """Return the first texts of the test split that the model's own data has."""
    data = artifact.manifest.data
    if data is None or artifact.task.pair or artifact.task.kind != "classification":
        raise InputError(
            "it is no classifier of single texts with data of its own",
            place=artifact.manifest.source,
            remedy="Fine-tune one: compress finetune --model minilm-l6 --data movie-reviews --out DIR.",
        )
    return list(load_data(data).test["text"][:count])


@torch.inference_mode()
def in_torch(artifact: Artifact, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return torch's probabilities (texts, labels), one text a call: int8 has one activation scale a call."""
    import datasets

    rows = []
    for row in encode(datasets.Dataset.from_dict({"text": list(texts)}), artifact.tokenizer, artifact.task):
        logits = artifact.model(**pad([row], artifact.tokenizer)).logits[0]
        rows.append(torch.softmax(logits.double(), 0).numpy())
    return np.stack(rows)


def ask(
    precision: str, bundle: Path, work: Path, texts: Sequence[str], reference: NDArray[np.float64]
) -> Iterator[Row]:
    """Yield one row for each runtime; what this machine lacks is said in the row."""
    picture = PICTURE if precision == "int8" else None
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    runtimes: dict[str, Client] = {
        "run.py (onnxruntime)": clients.runner,
        "onnxruntime-node": clients.node,
        "transformers.js in Node": clients.transformers_js,
        "onnxruntime-web in Chromium": partial(clients.page, picture=picture),
        "optimum ORTModel": clients.optimum,
        "OpenVINO, f32": clients.openvino,
        "OpenVINO, bf16": partial(clients.openvino, precision="bf16"),
    }
    yield Row("torch", precision, Answers(torch.__version__, reference, np.nan, np.nan), reference)
    for number, (name, client) in enumerate(runtimes.items()):
        say(f"{precision}: {name}")
        try:
            answers = client(Place(bundle, work, work / "scratch" / f"{precision}-{number}"), texts)
            yield Row(name, precision, answers, reference)
        except Missing as error:
            yield Row(name, precision, str(error), reference)
        except subprocess.CalledProcessError as error:
            yield Row(name, precision, _reason(error), reference)


def _reason(error: subprocess.CalledProcessError) -> str:
    """Return the line of a program's stderr that says what went wrong."""
    lines = [line for line in (error.stderr or "").splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line]
    return (named or lines or [f"exit code {error.returncode}"])[-1].strip()


if __name__ == "__main__":
    main()
