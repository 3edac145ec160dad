"""The files that the suite compares, ours and the peers', each in a model folder of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.no_retraining.environments import python_of
from bench.no_retraining.methods import PEERS
from bench.no_retraining.models import ROOT
from compress import pipeline
from compress.artifact import content_hash
from compress.benchmark.config import Runtime
from compress.display import say
from compress.errors import first_line
from compress.passes.base import Pass
from compress.passes.export import Export
from compress.passes.quantize import Quantize
from compress.pipeline import Step

PLAIN = "torch.onnx.export"
FILE = Path("onnx") / "model.onnx"
OPTIMUM = ROOT / "bench" / "runtimes" / "optimum" / "requirements.txt"


@dataclass(frozen=True)
class Peer:
    """A file that another toolkit writes.

    Attributes:
        title: what the table calls it.
        script: what writes it, see `bench/peers/onnxruntime/run.py`.
        variant: which of the script's ways.
        runtimes: where it runs.
        requirements: its environment; None for this one.
    """

    title: str
    script: Path
    variant: str = ""
    runtimes: tuple[Runtime, ...] = ("onnxruntime",)
    requirements: Path | None = None


ORT = PEERS / "onnxruntime" / "run.py"
NNCF = PEERS / "nncf" / "run.py"
PEER_FILES = (
    Peer(PLAIN, ORT, "export"),
    Peer("ORT quantize_dynamic", ORT, "dynamic"),
    Peer("ORT quantize_dynamic, per channel", ORT, "dynamic-per-channel"),
    Peer("ORT quantize_dynamic, QUInt8", ORT, "dynamic-quint8"),
    Peer("ORT quantize_static, QDQ", ORT, "static"),
    Peer("optimum-onnx, avx512_vnni", PEERS / "optimum" / "run.py", requirements=OPTIMUM),
    Peer("NNCF, int8", NNCF, "", ("openvino",), NNCF.with_name("requirements.txt")),
)
OURS: tuple[tuple[str, tuple[Pass, ...], tuple[Runtime, ...]], ...] = (
    ("**ours, float32**", (Export(),), ("onnxruntime", "openvino", "openvino-bf16")),
    ("**ours, int8 dynamic**", (Quantize(), Export()), ("onnxruntime",)),
    ("**ours, int8 static**", (Quantize(scheme="static"), Export()), ("onnxruntime", "openvino")),
)


def our_folder(model: Path, passes: tuple[Pass, ...], work: Path) -> Path:
    """Run the passes on the model with its own data; what is done is not done again."""
    names = "-".join(str(getattr(each, "scheme", each.name)) for each in passes)
    steps = [Step(each, work / "ours" / names / each.name) for each in passes]
    return pipeline.run(pipeline.plan(str(model), steps, None), work / "ours" / names / ".work")[-1]


def peer_folder(peer: Peer, model: Path, calibration: Path, work: Path) -> Path | str:
    """Return a model folder with the peer's file in it, or the last words of a peer that failed."""
    folder = work / "peers" / f"{peer.script.parent.name}-{peer.variant or 'default'}"
    file = folder / FILE
    parts = [content_hash(model).encode(), peer.script.read_bytes(), calibration.read_bytes()]
    parts += [peer.requirements.read_bytes()] if peer.requirements else []
    key = hashlib.sha256(b"".join(parts)).hexdigest()
    if (folder / "key").exists() and (folder / "key").read_text() == key:
        return folder if file.exists() else _last_words(folder, model)
    say(f"{peer.title} → {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    file.parent.mkdir(parents=True)
    for path in model.iterdir():  # config, tokenizer and task; no weights
        if path.suffix in (".json", ".txt", ".model"):
            shutil.copy(path, folder)
    job = {
        "model": str(model),
        "calibration": str(calibration),
        "float": str(work / "peers" / "onnxruntime-export" / FILE),
        "variant": peer.variant,
        "out": str(file),
    }
    (folder / "job.txt").write_text(json.dumps(job, indent=2) + "\n")
    python = python_of(peer.requirements, work.parent) if peer.requirements else Path(sys.executable)
    paths = {} if peer.requirements else {"PYTHONPATH": str(ROOT)}
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            [str(python), str(peer.script), str(folder / "job.txt")],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            | {"HF_HUB_OFFLINE": "1"}
            | paths,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    (folder / "key").write_text(key)
    if done.returncode:
        file.unlink(missing_ok=True)
        return _last_words(folder, model)
    return folder


def failure(folder: Path, calibration: Path) -> str:
    """Run a folder's file on one row; return what ONNX Runtime says where it fails, and nothing where it answers."""
    import onnxruntime

    row = json.loads(calibration.read_text(encoding="utf-8").partition("\n")[0])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
        session.run(None, {each.name: np.array([row[each.name]], np.int64) for each in session.get_inputs()})
    except Exception as error:  # a kind of its own for each status code
        return f"it does not run: {first_line(error)}"
    return ""


def _last_words(folder: Path, model: Path) -> str:
    """Return the last line of a peer's log; where the model lies is nobody's business."""
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].replace(str(model), model.name) if lines else "no output"
