"""One function per pass: a model goes in by name or folder, the result is saved and returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from compress import pipeline
from compress.artifact import Artifact, load
from compress.data.config import DataConfig
from compress.passes.base import Pass
from compress.passes.catalog import Distill, Export, Factorize, Finetune, Prune, Quantize, Vocabulary
from compress.pipeline import Step


def apply(
    steps: list[Step],
    model: str | Path,
    data: str | DataConfig | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Artifact:
    """Run a chain of steps on a model and return the last result, loaded from its folder.

    Raises:
        InputError: everything that is wrong, before anything runs.
        CompressError: a step failed.
        BudgetError: a step could not meet its budget; its best result is in its folder.
    """
    if isinstance(data, str):
        data = DataConfig(source=data)
    chain = pipeline.plan(str(model), steps, data, seed, device)
    out = steps[-1].folder.absolute()
    pipeline.require_budgets(pipeline.run(chain, out.with_name(f".{out.name}.work")))
    return load(out)


class PassFunction(Protocol):
    """Runs one pass: `prune("runs/teacher", "runs/pruned", heads=0.25)`."""

    def __call__(
        self,
        model: str | Path,
        out: str | Path,
        *,
        data: str | DataConfig | None = None,
        seed: int = 0,
        device: str = "cpu",
        **options: Any,
    ) -> Artifact:
        """Run the pass on `model`, save the result in `out` and return it.

        Args:
            model: a folder, a packaged model, an alias or a hub id.
            out: folder of the result.
            data: what to train, calibrate and score on; None: what the model was trained on.
            seed: seed of everything random.
            device: `cpu` or `cuda`.
            **options: the fields of the pass's class.

        Raises:
            InputError: everything that is wrong, before anything runs.
            BudgetError: the result is saved, but not within the budget that was given.
            ValidationError: an option is unknown or out of range.
        """
        ...


def _function(kind: type[Pass]) -> PassFunction:
    def run_pass(
        model: str | Path,
        out: str | Path,
        *,
        data: str | DataConfig | None = None,
        seed: int = 0,
        device: str = "cpu",
        **options: Any,
    ) -> Artifact:
        return apply([Step(kind(**options), Path(out))], model, data, seed, device)

    run_pass.__name__, run_pass.__doc__ = kind.name, kind.__doc__
    return run_pass


finetune = _function(Finetune)
distill = _function(Distill)
vocabulary = _function(Vocabulary)
prune = _function(Prune)
factorize = _function(Factorize)
quantize = _function(Quantize)
export = _function(Export)
