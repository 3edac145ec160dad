"""Try every operation on tiny models of many families and write what works to `docs/families.md`.

    python -m bench.families              # all, half an hour on two idle cores
    python -m bench.families gpt2 falcon  # these again; the others stay as they are in the record

First every operation of every family, and the ONNX file of all operations together; then, for the families that
the tests know, an ONNX file after each operation. The record, `bench/results/families.json`, and the table are
written after every step, and say no more than what was tried.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "bench" / "results" / "families.json"
TABLE = ROOT / "docs" / "families.md"
ALL = "all together"
LAST = ("heads", "ffn", "factorize", "vocabulary", "int8")
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")
BROKEN = "broken: "  # begins the reason where an error was none of ours


class Row(TypedDict):
    """One family: why an operation, or an export after it, was refused; empty where it works."""

    tested: bool
    operations: dict[str, str]
    exports: dict[str, str]


def try_operations(family: str, operations: Sequence[str], tested: bool) -> Row:
    """Run every operation on its own and all together, reload, and export the last."""
    row = Row(tested=tested, operations={}, exports={})
    for name in operations:
        row["operations"][name] = _reason(partial(_try, family, [name]))
    row["operations"][ALL] = _reason(lambda: _try(family, _working(row)))
    row["exports"][ALL] = _reason(lambda: _try(family, _working(row), export=True))
    return row


def _working(row: Row) -> list[str]:
    return [name for name in LAST if not row["operations"][name]]


def _try(family: str, steps: Sequence[str], export: bool = False) -> None:
    """Do the steps, then save and reload both ways, or export."""
    from family_grid import artifact_of, batch_of, changed
    from tiny_models import assert_reloads

    from compress.exporting import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        artifact = artifact_of(family)
        for step in steps:
            artifact = changed(artifact, step, Path(folder))
        if export:
            export_onnx(artifact, Path(folder))
        else:
            assert_reloads(artifact, Path(folder) / "model", batch_of(artifact))


def _reason(action: Callable[[], None]) -> str:
    from compress.errors import CompressError, first_line

    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        try:
            action()
        except CompressError as error:
            return error.cause
        except Exception as error:  # to be mended, and the run goes on
            return f"{BROKEN}{type(error).__name__}: {first_line(error)}"
    return ""


def table(record: dict[str, Row]) -> str:
    """Return the table in Markdown, with a numbered list of reasons below."""
    reasons: dict[str, int] = {}

    def cell(reason: str) -> str:
        return f"no [{reasons.setdefault(reason, len(reasons) + 1)}]" if reason else "yes"

    def onnx(row: Row) -> str:
        single = [name for name in row["operations"] if name != ALL]
        every = all(row["exports"].get(name) == "" for name in single)
        return cell(row["exports"][ALL]) + (", after each too" if every else "")

    def lines(tested: bool) -> list[str]:
        rows = {family: row for family, row in record.items() if row["tested"] is tested}
        names = list(next(iter(record.values()))["operations"])
        head = ["| family | " + " | ".join([*names, "ONNX"]) + " |", "|---" * (len(names) + 2) + "|"]
        return head + [
            f"| {family} | " + " | ".join([*map(cell, row["operations"].values()), onnx(row)]) + " |"
            for family, row in rows.items()
        ]

    tested, others = lines(True), lines(False)
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return "\n".join([INTRODUCTION, *tested, OTHERS, *others, "\n## Why not\n", *notes, f"\n{versions}.", ""])


INTRODUCTION = f"""# Families

<!-- Written by `python -m bench.families`; do not edit. -->

What was tried on a tiny random model of each family, with two layers and a tokenizer of the family's kind. *yes*
means: the changed model is saved and comes back with the same logits bit for bit, by `compress.load` and by plain
`from_pretrained`. The operations: a quarter of the heads, half of the feed-forward neurons, one of two layers (of
an encoder and a decoder, the encoder's), factors with 60% of the weights, the pieces of twenty sentences, int8.
*{ALL.capitalize()}*: all of them but layers, without those that say no. *ONNX*: the file made of that model
answers as it does, at other batch sizes and lengths; *after each too*: so does a file made after each operation
alone.

`smollm` is Llama with tied embeddings; `deberta-v2` and `deberta-v3` are two kinds of config of one family.
"""
OTHERS = """
## Families outside the tests' list

Their parts are found by the table of architectures or by their structure; `compress inspect` says which.
"""


def main(families: Sequence[str]) -> None:
    """Try `families`, all when empty, and rewrite record and table after each step."""
    logging.disable(logging.WARNING)
    sys.path.insert(0, str(ROOT / "tests"))  # the tiny models are the tests'
    from family_grid import OPERATIONS
    from tiny_configs import TUNED, UNTUNED
    from transformers.utils import logging as progress

    progress.disable_progress_bar()
    record: dict[str, Row] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record = {family: record[family] for family in [*TUNED, *UNTUNED] if family in record}
    for family in families or [*TUNED, *UNTUNED]:
        record[family] = try_operations(family, list(OPERATIONS), family in TUNED)
        record = {name: record[name] for name in [*TUNED, *UNTUNED] if name in record}
        _write(record, family, record[family]["operations"] | {"ONNX": record[family]["exports"][ALL]})
    for family in [name for name in families or TUNED if name in TUNED]:
        for name in OPERATIONS:
            record[family]["exports"][name] = _reason(partial(_try, family, [name], export=True))
            _write(record, family, {f"ONNX after {name}": record[family]["exports"][name]})


def _write(record: dict[str, Row], family: str, results: dict[str, str]) -> None:
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    TABLE.write_text(table(record))
    print(family, *(f"{name}: {reason or 'yes'}" for name, reason in results.items()), sep=" | ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
