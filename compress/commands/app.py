"""The one Typer app, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import typer

from compress.commands import compare, looking, passes, recipes, recommend, search, shipping, training
from compress.commands.spread import SpreadCommand
from compress.errors import CompressError

app = typer.Typer(
    name="compress",
    help="Distil, prune, factorize and quantize transformers, and prove that the result is right and faster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    training.finetune,
    training.distill,
    passes.vocabulary,
    passes.prune,
    passes.factorize,
    shipping.quantize,
    shipping.export,
    recipes.bench,
    recipes.run,
    recommend.recommend,
    search.search,
    compare.compare,
    looking.inspect,
    looking.probe,
    looking.assets,
):
    app.command(cls=SpreadCommand)(command)


def main() -> None:
    """Run the command line: 0 done, 1 budget not met, 2 bad input, 130 interrupted."""
    _quiet_libraries()
    _large_pages()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except CompressError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except _Interrupted:
        sys.stderr.write("interrupted; the same command goes on from the last checkpoint\n")
        sys.exit(130)


class _Interrupted(BaseException):
    """Ctrl-C. Not KeyboardInterrupt, which typer itself would turn into exit code 1."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def _quiet_libraries() -> None:
    """Keep the libraries' own bars and reports off the screen; ours say what the user needs."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _large_pages() -> None:
    """Let torch ask for pages of 2 MB where the system has them.

    The gradient of a word table is a new block at every step; to map it by 4 KB took 6% of a training's processor time.
    """
    if Path("/sys/kernel/mm/transparent_hugepage").exists():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
