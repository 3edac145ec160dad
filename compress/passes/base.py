"""What a pass is, what it may look at before it runs, and what it gets when it runs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from compress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from compress.artifact import Artifact
    from compress.data import TextData


@dataclass
class ModelPlan:
    """What is known of the model at one point of a chain, without its weights. Passes check and update it.

    Attributes:
        config: the model's config; None once a pass has put a model in place that is not known yet.
        task: what the model answers; None without a trained head.
        data: the data the chain runs on, None where there is none.
        results: config and task of what each pass before this one made, first to last.
        quantized, exported: whether a pass before this one did that.
        errors: everything that was refused, each with cause and remedy.
    """

    config: PretrainedConfig | None
    task: Task | None
    data: TextData | None
    results: list[tuple[PretrainedConfig | None, Task | None]] = field(default_factory=list)
    quantized: bool = False
    exported: bool = False
    place: str = ""
    errors: list[str] = field(default_factory=list)

    def refuse(self, cause: str, remedy: str) -> None:
        """Note an error at the pass being checked; checking goes on to collect all of them."""
        self.errors.append(f"{self.place}: {cause}. {remedy}")


@dataclass(frozen=True)
class Context:
    """What a running pass may use besides the artifact.

    Attributes:
        seed: the run's seed, already set for torch, numpy and random.
        workdir: scratch folder of this step. It survives a kill, so that training can resume.
        data: the data of the chain, None where there is none.
        device: `cpu` or `cuda`.
        input_folder: where the artifact that comes in was loaded from.
        steps: folders of the steps before this one, first to last.
        notes: facts for the user and the manifest; a pass appends one line each.
        logs: folder for what trackers write, which stays; None: none is written.
        unmet: budgets that the pass could not meet, a line each; what it returns is saved all the same.
    """

    seed: int
    workdir: Path
    data: TextData | None = None
    device: str = "cpu"
    input_folder: Path | None = None
    steps: tuple[Path, ...] = ()
    logs: Path | None = None
    notes: list[str] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)


class Pass(BaseModel, ABC):
    """A pass's options; the object that a user writes in YAML is the pass itself.

    Attributes:
        name: the pass's name in recipes and on the command line.
        changes_answers: False where the model answers as before, so that it need not be scored again.
    """

    # Schemas are built on first use: `--help` needs none.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)

    name: ClassVar[str]
    changes_answers: ClassVar[bool] = True

    @abstractmethod
    def check(self, plan: ModelPlan) -> None:
        """Refuse by `plan.refuse` what cannot work and update the plan to what comes out."""

    def model_names(self) -> tuple[str, ...]:
        """Return the models that the pass reads besides the one that comes in; their content decides too."""
        return ()

    def input_files(self) -> tuple[Path, ...]:
        """Return the files that options name; their content decides too."""
        return ()

    @abstractmethod
    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the changed artifact. The one that came in may be used up."""


def step_number(name: str) -> int | None:
    """Return N of `step:N`, which names what pass N made, counted from 1; None for any other name of a model."""
    match = re.fullmatch(r"step:(\d+)", name)
    return int(match[1]) if match else None
