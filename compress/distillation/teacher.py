"""A teacher's answers: computed once from its own inputs, kept on disk, read by every run that asks again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.assets import cache_root
from compress.display import say
from compress.errors import InputError
from compress.manifest import hash_json
from compress.tasks.evaluate import predict
from compress.tasks.inputs import encode

if TYPE_CHECKING:
    import datasets

    from compress.artifact import Artifact


@dataclass(frozen=True)
class Teacher:
    """A trained model that answers in place of, or beside, the labels.

    Attributes:
        artifact: the model with its own tokenizer and task.
        content: hash of the teacher's folder; the cache is kept under it.
        bf16: whether it answers in bfloat16 (autocast).
    """

    artifact: Artifact
    content: str
    bf16: bool

    def logits(self, data: datasets.Dataset, fingerprint: str) -> NDArray[np.float32]:
        """Return the teacher's logits (examples, labels) on a split, in the teacher's own label order.

        They are computed once per (teacher, data, length, precision) and memory-mapped from the cache.

        Args:
            data: a split with "text" and, for pairs, "text_pair".
            fingerprint: hash that stands for the split's content.

        Raises:
            InputError: the teacher answers NaN or infinity.
        """
        key = hash_json([self.content, fingerprint, self.artifact.task.max_length, self.bf16])
        path = cache_root() / "teacher-logits" / f"{key}.npy"
        if path.exists():
            say(f"  teacher's answers: {len(data):,} from the cache")
        else:
            self._compute(data, path)
        answers: NDArray[np.float32] = np.load(path, mmap_mode="c", allow_pickle=False)
        return answers

    def _compute(self, data: datasets.Dataset, path: Path) -> None:
        artifact = self.artifact
        encoded = encode(data, artifact.tokenizer, artifact.task)
        answers = predict(
            artifact.model, encoded, artifact.tokenizer, bf16=self.bf16, title="teacher answers"
        )
        if not np.isfinite(answers).all():
            raise InputError(
                f"the teacher answers NaN or infinity for {int((~np.isfinite(answers)).any(-1).sum())} examples",
                place=artifact.manifest.source or "teacher",
                remedy="Its weights are broken; train it again or give another teacher.",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as file:
            np.save(file, answers, allow_pickle=False)
        partial.replace(path)
