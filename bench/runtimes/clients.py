"""Each runtime as a function: a bundle and texts in, probabilities and times out."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.no_retraining.environments import python_of
from bench.runtimes.environments import NODE, browser, node_modules, program

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Answers:
    """What a runtime says.

    Attributes:
        version: of the runtime.
        probabilities: (texts, labels) float64.
        start_s: seconds from nothing to the first answer: a process that answers one text, start to end; for
            the browser, from asking for the page until it can answer.
        text_ms: milliseconds a text, mean, tokenizing included.
    """

    version: str
    probabilities: NDArray[np.float64]
    start_s: float
    text_ms: float


@dataclass(frozen=True)
class Place:
    """Where a client runs: the bundle, a folder for environments, one for this client's files."""

    bundle: Path
    work: Path
    scratch: Path


Client = Callable[[Place, Sequence[str]], Answers]


def runner(place: Place, texts: Sequence[str]) -> Answers:
    """The bundle's run.py, in an environment that holds only what its requirements.txt names."""
    requirements = place.work / "runner" / "requirements.txt"  # its folder names the environment
    requirements.parent.mkdir(exist_ok=True)
    requirements.write_bytes((place.bundle / "requirements.txt").read_bytes())
    python = str(python_of(requirements, place.work))
    listed = "import importlib.util as u; print([n for n in ('torch', 'transformers') if u.find_spec(n)])"
    assert _output([python, "-c", listed]).strip() == "[]", "the environment holds more than the runner needs"
    version = "import importlib.metadata as m; print(m.version('onnxruntime'))"
    return _lines([python, str(place.bundle / "run.py")], texts, _output([python, "-c", version]).strip())


def node(place: Place, texts: Sequence[str]) -> Answers:
    """The bundle's node/classify.mjs, with onnxruntime-node."""
    modules = node_modules(place.work)
    _link(place.bundle / "node", modules)
    version = json.loads((modules / "onnxruntime-node" / "package.json").read_bytes())["version"]
    return _lines([program("node"), str(place.bundle / "node" / "classify.mjs")], texts, version)


def transformers_js(place: Place, texts: Sequence[str]) -> Answers:
    """transformers.js in Node, which reads the bundle as a model folder."""
    modules = node_modules(place.work)
    _link(place.scratch, modules)
    script = place.scratch / "transformers.mjs"
    script.write_bytes((NODE / script.name).read_bytes())
    return _client([program("node"), str(script)], place, texts)


def page(place: Place, texts: Sequence[str], picture: Path | None = None) -> Answers:
    """The bundle's page in headless Chromium, with onnxruntime-web, offline once it is loaded."""
    modules = node_modules(place.work)
    _link(place.bundle / "web", modules)
    _output([program("node"), str(place.bundle / "web" / "vendor.mjs")])
    _link(place.scratch, modules)
    script = place.scratch / "browser.mjs"
    script.write_bytes((NODE / script.name).read_bytes())
    extra = [browser(), *([str(picture)] if picture else [])]
    answers = _client([program("node"), str(script)], place, texts, *extra)
    version = json.loads((modules / "onnxruntime-web" / "package.json").read_bytes())["version"]
    return Answers(f"{version}, Chromium {answers.version}", *_numbers(answers))


def openvino(place: Place, texts: Sequence[str], precision: str = "f32") -> Answers:
    """OpenVINO, which reads the ONNX file itself; `precision` is `f32` or `bf16`."""
    python = python_of(HERE / "openvino" / "requirements.txt", place.work)
    return _client([str(python), str(HERE / "openvino" / "client.py")], place, texts, precision)


def optimum(place: Place, texts: Sequence[str]) -> Answers:
    """ORTModelForSequenceClassification.from_pretrained(bundle) of optimum-onnx."""
    python = python_of(HERE / "optimum" / "requirements.txt", place.work)
    return _client([str(python), str(HERE / "optimum" / "client.py")], place, texts)


def _lines(command: list[str], texts: Sequence[str], version: str) -> Answers:
    """Run a program that answers each line of stdin with one of JSON."""
    rows, first, whole = [], _seconds(command, texts[:1])[0], _seconds(command, texts)
    for line in whole[1].splitlines():
        rows.append(list(json.loads(line)["scores"].values()))
    return Answers(version, np.array(rows), first, 1000 * (whole[0] - first) / (len(texts) - 1))


def _client(command: list[str], place: Place, texts: Sequence[str], *extra: str) -> Answers:
    """Run a script `… BUNDLE TEXTS ANSWERS [extra]`, once for one text and once for all."""
    place.scratch.mkdir(parents=True, exist_ok=True)
    asked, answered = place.scratch / "texts.json", place.scratch / "answers.json"
    arguments = [*command, str(place.bundle), str(asked), str(answered), *extra]
    asked.write_text(json.dumps(list(texts[:1])), encoding="utf-8")
    start, _ = _seconds(arguments)
    asked.write_text(json.dumps(list(texts)), encoding="utf-8")
    _seconds(arguments)
    found: dict[str, Any] = json.loads(answered.read_bytes())
    first = found.get("load", start)
    return Answers(found["version"], np.array(found["rows"]), first, 1000 * found["seconds"] / len(texts))


def _seconds(command: list[str], lines: Sequence[str] = ()) -> tuple[float, str]:
    start = time.perf_counter()
    output = _output(command, "".join(f"{line}\n" for line in lines))
    return time.perf_counter() - start, output


def _output(command: list[str], text: str = "") -> str:
    # Its own environment alone: what this process can import, the other must not see.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=True)
    return done.stdout


def _numbers(answers: Answers) -> tuple[NDArray[np.float64], float, float]:
    return answers.probabilities, answers.start_s, answers.text_ms


def _link(folder: Path, modules: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "node_modules"
    if not link.exists():
        link.symlink_to(modules)
