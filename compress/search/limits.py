"""What the user asks of a model, and how far a measured one is from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import BaseModel, Field, model_validator


class Limits(BaseModel, frozen=True, extra="forbid"):
    """Limits that the winner has to keep, on texts of the data, one a call."""

    max_drop: float = Field(
        1.0,
        ge=0,
        description="points of the main metric that may be lost against the model that goes in; hundredths of a "
        "correlation",
    )
    min_speedup: float | None = Field(
        None, gt=0, description="times as fast as the model that goes in, in torch"
    )
    max_latency_ms: float | None = Field(None, gt=0, description="median milliseconds of a text")
    max_size_mb: float | None = Field(
        None, gt=0, description="megabytes of all that has to be shipped, tokenizer included"
    )

    @model_validator(mode="after")
    def _something_to_win(self) -> Limits:
        if self.min_speedup is None and self.max_latency_ms is None and self.max_size_mb is None:
            raise ValueError("give --min-speedup, --max-latency-ms or --max-size-mb, or several of them")
        return self


@dataclass(frozen=True)
class Measured:
    """What limits are held against.

    Attributes:
        speedup: times as fast as the reference; of a measurement the lower end of its 95% interval.
        latency_ms: median of a text.
        size_mb: of all that is shipped.
        drop: points lost, below 0 where some were won; None where that is not known yet.
    """

    speedup: float
    latency_ms: float
    size_mb: float
    drop: float | None = None


def shortfalls(found: Measured, limits: Limits, slack: float = 0.0) -> dict[str, float]:
    """Return by how much each limit is missed, as a share of it, with the words to say so; empty where all are kept.

    Args:
        found: measured or estimated.
        limits: what is asked.
        slack: share by which speed, time and size may miss a limit and still count as within; below 0 they have to
            keep more than that.
    """
    missed: dict[str, float] = {}

    def miss(words: str, ratio: float) -> None:
        if ratio > 1 + slack + 1e-9:
            missed[words] = math.log(ratio)

    if limits.min_speedup is not None:
        miss(f"{found.speedup:.1f}× of {limits.min_speedup:g}×", limits.min_speedup / found.speedup)
    if limits.max_latency_ms is not None:
        miss(
            f"{found.latency_ms:.2f} ms of {limits.max_latency_ms:g} ms",
            found.latency_ms / limits.max_latency_ms,
        )
    if limits.max_size_mb is not None:
        miss(f"{found.size_mb:.1f} MB of {limits.max_size_mb:g} MB", found.size_mb / limits.max_size_mb)
    if found.drop is not None and found.drop > limits.max_drop + 1e-9:
        # A point too much counts as being half as fast as asked.
        missed[f"{found.drop:.2f} points lost of {limits.max_drop:g}"] = (
            found.drop - limits.max_drop
        ) * math.log(2)
    return missed
