"""The order of the training examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

_BATCHES = 50  # among which examples of like length are looked for


class LengthBuckets(Sampler[int]):
    """Shuffled examples, those of like length side by side, so that batches hold little padding.

    The order depends on seed and epoch alone: a run that resumes, and one spread over several processes, see the
    same batches. The longest batch comes first, so that memory runs out at once or never.

    Args:
        lengths: (examples,) tokens of each.
        batch_size: of all processes together.
        seed: of the order.
        turns: the last examples, in stretches of which each epoch reads one in turn, as much as the shortest has.
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, seed: int, turns: Sequence[range] = ()) -> None:
        self.lengths: NDArray[np.int32] = np.asarray(lengths, np.int32)
        self.batch_size, self.seed, self.epoch, self.turns = batch_size, seed, 0, turns
        self._always = turns[0].start if turns else len(self.lengths)
        self._in_turn = min(map(len, turns), default=0)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; `Trainer` does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._always + self._in_turn

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)) % 2**63)
        size, order = self.batch_size, torch.randperm(len(self), generator=generator).numpy()
        if self.turns:
            order[order >= self._always] += self.turns[self.epoch % len(self.turns)].start - self._always
        pool = size * max(1, min(_BATCHES, len(order) // (4 * size)))
        for start in range(0, len(order), pool):
            some = order[start : start + pool]
            some[:] = some[np.argsort(-self.lengths[some], kind="stable")]
        whole = order[: len(order) // size * size].reshape(-1, size)
        if len(whole):
            shuffled = torch.randperm(len(whole), generator=generator).numpy()
            longest = int(self.lengths[whole[:, 0]].argmax())
            place = int(np.flatnonzero(shuffled == longest)[0])
            shuffled[0], shuffled[place] = shuffled[place], shuffled[0]
            for batch in shuffled:
                yield from whole[batch].tolist()
        yield from order[whole.size :].tolist()  # a short batch comes last


class StepParts(Sampler[list[int]]):
    """Each step's batch in as many parts as processes and accumulation make of it, one after the other.

    The short batch at the end of an epoch is spread over all of them. Where it has fewer examples than there are
    parts, some are read by several.

    Args:
        sampler: the order, with the size of a whole batch.
        parts: of each.
    """

    def __init__(self, sampler: LengthBuckets, parts: int) -> None:
        self.sampler, self.parts = sampler, parts  # accelerate calls `sampler.set_epoch`

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.sampler.batch_size) * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        order = iter(self.sampler)
        while batch := list(islice(order, self.sampler.batch_size)):
            while len(batch) < self.parts:
                batch = batch * 2
            cuts = [len(batch) * part // self.parts for part in range(self.parts + 1)]
            yield from (batch[cuts[part] : cuts[part + 1]] for part in range(self.parts))
