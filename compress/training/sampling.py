"""The order of the training examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_BATCHES = 50  # among which examples of like length are looked for


class LengthBuckets(Sampler[int]):
    """Shuffled examples, those of like length side by side, so that batches hold little padding.

    The order depends on seed and epoch alone: a run that resumes, and one spread over several processes, see the
    same batches. The longest batch comes first, so that memory runs out at once or never.

    Args:
        lengths: tokens of each example.
        batch_size: of all processes together.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; `Trainer` does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)) % 2**63)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        pool = self.batch_size * max(1, min(_BATCHES, len(order) // (4 * self.batch_size)))
        chunks = [
            sorted(order[start : start + pool], key=lambda index: -self.lengths[index])
            for start in range(0, len(order), pool)
        ]
        batches = [
            chunk[start : start + self.batch_size]
            for chunk in chunks
            for start in range(0, len(chunk), self.batch_size)
        ]
        whole = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]  # a short batch comes last
        longest = max(range(len(whole)), key=lambda i: self.lengths[whole[i][0]], default=0)
        shuffled = torch.randperm(len(whole), generator=generator).tolist()
        if whole:
            place = shuffled.index(longest)
            shuffled[0], shuffled[place] = shuffled[place], shuffled[0]
        for batch in [*(whole[i] for i in shuffled), *rest]:
            yield from batch
