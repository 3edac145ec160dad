"""Where losses are logged: a folder that stays for TensorBoard, a run for each training in W&B."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainerCallback


@contextmanager
def run_of_its_own(track: Sequence[str]) -> Iterator[None]:
    """End a run of wandb that begins meanwhile; else the next pass's losses would go into it too."""
    if "wandb" not in track:
        yield
        return
    wandb = importlib.import_module("wandb")
    before = wandb.run
    try:
        yield
    finally:
        if wandb.run is not before:
            wandb.finish()


def tensorboard(folder: Path) -> TrainerCallback:
    """Write to a folder that stays: the Trainer's own choice lies in the working folder, which goes at the end."""
    from transformers.integrations.integration_utils import TensorBoardCallback

    callback = TensorBoardCallback()
    callback.logging_dir = callback.logging_dir or str(folder)  # unless TENSORBOARD_LOGGING_DIR names another
    return callback
