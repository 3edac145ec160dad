"""A bench that is not run again where the same was measured on this machine before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.artifact import content_hash
from compress.benchmark.config import BenchConfig
from compress.benchmark.harness import run_bench
from compress.benchmark.quality import slice_columns
from compress.benchmark.report import NAME, Report, read_report
from compress.benchmark.targets import Target
from compress.display import say
from compress.hardware import fingerprint
from compress.manifest import hash_json

if TYPE_CHECKING:
    import datasets


def bench_once(
    targets: Sequence[Target],
    config: BenchConfig,
    test: datasets.Dataset | None,
    data: str | None,
    out: Path,
    seed: int,
) -> Report:
    """Return `run_bench`'s report, from `out` where it was made of the same models, data and config on this machine.

    Args:
        targets: see `run_bench`, as for the others.
        config: what is measured.
        test: what answers are scored on.
        data: fingerprint of what `test` comes from; None without data.
        out: folder of the report.
        seed: of inputs and order.
    """
    models = [(target.name, content_hash(target.folder), target.runtimes) for target in targets]
    slices = [] if test is None else [(n, list(test[column])) for n, column in slice_columns(test).items()]
    key = hash_json([models, config.model_dump(mode="json"), data, seed, fingerprint(), *slices])
    stamp = out / "key.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        say(f"bench: done before, in {out}")
        return read_report(out / NAME)
    say(f"bench → {out}")
    report = run_bench(targets, config, test, out, seed)
    stamp.write_text(key, encoding="utf-8")
    return report
