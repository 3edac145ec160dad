"""What a model is timed on."""

from __future__ import annotations

from dataclasses import dataclass

from compress.benchmark.config import BenchConfig


@dataclass(frozen=True, order=True)
class Shape:
    """Batch size × tokens; 0 tokens stands for texts of the test set as they are."""

    batch_size: int
    sequence_length: int

    def __str__(self) -> str:
        return f"{self.batch_size}×{self.sequence_length or 'text'}"


TEXTS = Shape(1, 0)


def shapes_of(config: BenchConfig) -> list[Shape]:
    """Return all shapes, small batches first, texts last."""
    drawn = [Shape(batch, length) for batch in config.batch_sizes for length in config.sequence_lengths]
    return [*drawn, TEXTS] if config.texts else drawn
