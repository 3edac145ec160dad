"""compare: whether a bench came out worse than an earlier one."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from compress.commands.options import Json, finish


def compare(
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE.json", help="report.json of an earlier bench.")
    ],
    current: Annotated[
        Path, typer.Argument(metavar="CURRENT.json", help="report.json of the bench to judge.")
    ],
    max_latency_regression: Annotated[
        str, typer.Option(metavar="SHARE", help="How much longer a call may take beside the first model's.")
    ] = "10%",
    max_accuracy_drop: Annotated[
        float, typer.Option(min=0, help="Points that the metric may lose (hundredths of a correlation).")
    ] = 0.5,
    max_size_growth: Annotated[
        str, typer.Option(metavar="SHARE", help="How much larger the files may become.")
    ] = "10%",
    json: Json = False,
) -> None:
    """Compare two benches; exit 1 where the second is shown to be worse, 0 where it is noise.

    Times are compared as ratios within each bench, so the two may come from different machines.

    Example: compress compare main/report.json runs/bench/report.json --max-latency-regression 10%
    """
    from compress.benchmark import comparison
    from compress.benchmark.comparison_table import to_markdown
    from compress.benchmark.report import read_report
    from compress.errors import BudgetError

    limits = comparison.Limits(
        slower=_share(max_latency_regression, "--max-latency-regression"),
        drop=max_accuracy_drop,
        larger=_share(max_size_growth, "--max-size-growth"),
    )
    found = comparison.compare(read_report(baseline), read_report(current), limits)
    if json:
        finish({**asdict(found), "worse": len(found.worse)}, True)
    else:
        sys.stdout.write(to_markdown(found))
    if found.worse:
        names = [f"{each.name} ({each.runtime}) {each.shape or each.what}" for each in found.worse]
        raise BudgetError(f"worse than the baseline: {', '.join(names)}", place="compare")


def _share(text: str, option: str) -> float:
    """Return 0.1 for `10%` or `0.1`."""
    from compress.errors import InputError

    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(%?)", text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a share", place=option, remedy="Write 10% or 0.1.")
    return float(match[1]) / (100 if match[2] else 1)
