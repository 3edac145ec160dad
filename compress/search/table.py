"""What structures take in time and room, measured on untrained ones, before any is trained."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ValidationError

from compress.artifact import load, save
from compress.benchmark import BenchConfig, Report, Target
from compress.benchmark.kept import bench_once
from compress.benchmark.shapes import TEXTS
from compress.benchmark.targets import needed_files
from compress.display import progress, say
from compress.distillation.student import make_student
from compress.errors import CompressError
from compress.exporting import export_onnx
from compress.exporting.examples import example
from compress.hardware import cpu_flags, fingerprint
from compress.latency.timing import time_files
from compress.manifest import hash_json
from compress.passes.base import Context
from compress.passes.quantize import Quantize
from compress.recommendation.variants import Variant, sensible_variants
from compress.search.limits import Measured
from compress.search.space import Structure, changes, single_changes

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.search.setting import Setting

_TEXTS, _SECONDS = 32, 20.0
_INT8 = "int8-dynamic"  # the variant that structures are timed in


class Form(BaseModel, frozen=True):
    """A way to ship a structure: its time and size as shares of int8-dynamic's in ONNX Runtime."""

    variant: str
    runtime: str
    time: float
    size: float


class Part(BaseModel, frozen=True):
    """What a model takes in int8-dynamic: all of it that is no layer, and one layer."""

    rest: float
    layer: float


class Table(BaseModel, frozen=True):
    """Estimates for every structure.

    A layer to which several things are done takes the product of their shares.

    Attributes:
        key: of the model, the data and the machine that it was measured for.
        reference_ms: a text's milliseconds in the model that goes in, in torch.
        forms: ways to ship one.
        milliseconds: of the whole model's parts.
        megabytes: the same of what is shipped.
        shares: of a layer's time and size that are left, by what is done to it (`space.changes`).
        left_out: what cannot be made or exported, and why.
        seconds: that all of it took.
    """

    key: str
    reference_ms: float
    forms: tuple[Form, ...]
    milliseconds: Part
    megabytes: Part
    shares: dict[str, tuple[float, float]]
    left_out: tuple[str, ...]
    seconds: float

    def estimate(self, structure: Structure, whole: Structure, form: Form) -> Measured | None:
        """Return what to expect; None where what it asks of a layer cannot be made."""
        wanted = changes(structure, whole)
        if not set(wanted) <= set(self.shares):
            return None
        speed, size = (math.prod(self.shares[each][i] for each in wanted) for i in (0, 1))
        milliseconds = form.time * (
            self.milliseconds.rest + self.milliseconds.layer * speed * structure.layers
        )
        fewer = whole.rows * whole.hidden - structure.rows * structure.hidden  # bytes of the token table
        megabytes = self.megabytes.rest - fewer / 1e6 + self.megabytes.layer * size * structure.layers
        return Measured(self.reference_ms / milliseconds, milliseconds, form.size * megabytes)

    def corrected(self, speed: float, time: float) -> Table:
        """Return the table with every speed-up times `speed` and every time times `time`."""
        parts = Part(rest=self.milliseconds.rest * time, layer=self.milliseconds.layer * time)
        return self.model_copy(
            update={"reference_ms": self.reference_ms * speed * time, "milliseconds": parts}
        )


def measure_table(setting: Setting, threads: int, out: Path) -> Table:
    """Return the table, from `out/table.json` where it was measured before.

    Reference and ways to ship are benched on texts, these with a few of its layers; what a change of a layer saves is
    timed beside them at the texts' mean length.

    Raises:
        CompressError: the model has no export in int8, so nothing can be searched.
    """
    file, key = out / "table.json", hash_json([setting.origin, threads, fingerprint()])
    if (stored := _stored(file)) is not None and stored.key == key:
        return stored
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    reference, few = load(setting.reference), min(3, setting.whole.layers)
    anchor = out / "anchor"
    save(make_student(f"teacher:{few}", reference), anchor)
    variants, left_out = sensible_variants(cpu_flags(), has_data=True)
    reference_ms, forms, anchor_ms = _forms(setting, variants, anchor, threads, out)
    with tempfile.TemporaryDirectory(prefix="compress-search-") as work:
        milliseconds, megabytes, shares, failed = _layers(
            reference, setting, few, anchor_ms, threads, Path(work)
        )
    table = Table(
        key=key,
        reference_ms=reference_ms,
        forms=forms,
        milliseconds=milliseconds,
        megabytes=megabytes,
        shares=shares,
        left_out=(*left_out, *failed),
        seconds=time.monotonic() - began,
    )
    file.write_text(table.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return table


def _stored(file: Path) -> Table | None:
    """Read a table; None where there is none, or one that was cut short or is of another version."""
    try:
        return Table.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def make(setting: Setting, variant: Variant, folder: Path, out: Path) -> Path:
    """Return the folder of a model in a variant, made below `out` unless it is there."""
    return setting.run(folder, variant.steps(out), out / f".{variant.name}.work")


def bench_config(
    setting: Setting, targets: Sequence[Target], threads: int, texts: int, seconds: float
) -> BenchConfig:
    """Return the bench of targets in their own runtimes: texts as they are, and their mean length."""
    runtimes = dict.fromkeys(each for target in targets for each in target.runtimes or ())
    return BenchConfig(
        runtimes=tuple(runtimes),
        batch_sizes=(1,),
        sequence_lengths=(setting.mean_length,),
        texts=texts,
        threads=threads,
        seconds=seconds,
    )


def _forms(
    setting: Setting, variants: Sequence[Variant], anchor: Path, threads: int, out: Path
) -> tuple[float, tuple[Form, ...], float]:
    """Bench the reference and the anchor in every form; return ms of the reference, forms and the anchor's ms."""
    targets = [Target("reference", setting.reference, ("torch",))]
    for variant in variants:
        try:
            targets.append(Target(variant.name, make(setting, variant, anchor, out), variant.runtimes))
        except CompressError as error:
            if variant.name == _INT8:
                raise
            say(f"{variant.name} is left out: {error}")
    config = bench_config(setting, targets, threads, _TEXTS, _SECONDS)
    few = setting.data.validation.select(range(min(_TEXTS, len(setting.data.validation))))
    report = bench_once(targets, config, few, setting.data.fingerprint, out / "bench", setting.seed)
    return _forms_of(report)


def _forms_of(report: Report) -> tuple[float, tuple[Form, ...], float]:
    rows = [row for row in report.rows if row.sequence_length == TEXTS.sequence_length]
    reference, *others = rows
    speed = {
        (row.name, row.runtime): row.speedup_vs_first.value
        for row in others
        if row.speedup_vs_first is not None
    }
    standard = next(row for row in others if (row.name, row.runtime) == (_INT8, "onnxruntime"))
    fastest = speed[_INT8, "onnxruntime"]
    forms = tuple(
        Form(
            variant=row.name,
            runtime=row.runtime,
            time=fastest / speed[row.name, row.runtime],
            size=row.size_mb / standard.size_mb,
        )
        for row in others
    )
    return reference.latency_ms.p50, forms, reference.latency_ms.p50 / fastest


def _layers(
    reference: Artifact, setting: Setting, few: int, anchor_ms: float, threads: int, work: Path
) -> tuple[Part, Part, dict[str, tuple[float, float]], list[str]]:
    """Time and weigh a few layers and one, and a few with each change made to them alone."""
    whole = setting.whole
    alone = single_changes(whole)
    files: list[Path] = []
    sizes: list[float] = []
    known: list[str] = []
    failed = []
    with progress("make structures to time", 2 + len(alone)) as advance:
        for layers, name in [(few, ""), (1, ""), *((few, each) for each in alone)]:
            folder = work / str(len(files))
            try:
                made = make_student(f"teacher:{layers}", reference)
                for each in alone.get(name, whole).passes(whole, trained=False):
                    made = each.apply(made, Context(setting.seed, work))
                files.append(_int8_file(made, setting, folder))
            except CompressError as error:
                if not name:
                    raise
                failed.append(f"{name}: {error}")
            else:
                shipped = needed_files(folder, "onnxruntime", files[-1])
                sizes.append(sum(path.stat().st_size for path in shipped) / 1e6)
                known.append(name)
            advance(1)
    length = [setting.mean_length]
    tokens = example(reference.model, reference.tokenizer, length, torch.Generator().manual_seed(0))
    taken = time_files(files, {name: ids.numpy() for name, ids in tokens.items()}, threads)
    ratio = anchor_ms / taken[0]  # of texts in a bench to their mean length here
    times = [ratio * each for each in taken]
    milliseconds, megabytes = _parts(times, few), _parts(sizes, few)
    shares = {
        name: (
            (times[i] - milliseconds.rest) / (milliseconds.layer * few),
            (sizes[i] - megabytes.rest + whole.rows * (whole.hidden - alone[name].hidden) / 1e6)
            / (megabytes.layer * few),
        )
        for i, name in enumerate(known)
        if name
    }
    return milliseconds, megabytes, shares, failed


def _parts(values: Sequence[float], few: int) -> Part:
    """Split the values of a few layers and of one; where one is all there is, nothing is left for the rest."""
    layer = (values[0] - values[1]) / (few - 1) if few > 1 else values[0]
    return Part(rest=values[0] - few * layer, layer=layer)


def _int8_file(artifact: Artifact, setting: Setting, folder: Path) -> Path:
    """Export a model in dynamic int8, without data."""
    quantized = Quantize().apply(artifact, Context(setting.seed, folder))
    file: Path = export_onnx(quantized, folder)
    artifact.tokenizer.save_pretrained(folder)
    return file
