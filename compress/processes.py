"""Several processes that train one model, as `accelerate launch` and `torchrun` start them.

The first one writes folders and speaks; the others do the same work and keep quiet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def count() -> int:
    """Return how many processes work together; 1 for one alone."""
    return max(int(os.environ.get("WORLD_SIZE", "1")), 1)


def is_first() -> bool:
    """Say whether this is the process that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def take_device(device: str) -> None:
    """Make `cuda` mean the GPU of this process.

    Args:
        device: `cpu` or `cuda`.
    """
    if device == "cuda" and count() > 1:
        import torch

        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def wait(device: str) -> None:
    """Wait until all processes are here.

    Args:
        device: `cpu` or `cuda`, which decides how they talk.
    """
    if count() > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu").wait_for_everyone()


@contextmanager
def first_goes_first(device: str) -> Iterator[None]:
    """Let the first process do the work and fill the caches, then the others."""
    if not is_first():
        wait(device)
    yield
    if is_first():
        wait(device)
