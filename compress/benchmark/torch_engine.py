"""A model folder in torch, eager, as `compress.load` gives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.artifact import load
from compress.benchmark.engines import Inputs, answer_in, timed


class TorchEngine:
    """Runs a model under `torch.inference_mode`.

    Args:
        folder: a model folder.
        threads: of one operator; operators run one after the other.
        device: `cpu` or `cuda`.
    """

    def __init__(self, folder: Path, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self.device = device
        self.model = load(folder).model.to(device)  # type: ignore[arg-type]

    def bind(self, inputs: Inputs) -> Callable[[], int]:
        """See `Engine.bind`; on CUDA the time is the device's own, between two events."""
        tensors = self._place(inputs)
        if self.device == "cpu":
            return timed(lambda: self._run(tensors))
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

        def once() -> int:
            torch.cuda.synchronize()
            start.record()
            self._run(tensors)
            end.record()
            end.synchronize()
            return int(start.elapsed_time(end) * 1e6)

        return once

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """See `Engine.predict`."""
        outputs = self._run(self._place(inputs))
        tensors = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
        return answer_in({name: value.float().cpu().numpy() for name, value in tensors.items()})

    def _place(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(values.astype(np.int64)).to(self.device) for name, values in inputs.items()
        }

    @torch.inference_mode()
    def _run(self, tensors: dict[str, torch.Tensor]) -> Any:
        return self.model(**tensors)
