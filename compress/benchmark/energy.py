"""Energy that the processors drew, where the machine counts it and lets its counters be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counters:
    """The package counters of Linux's powercap interface (RAPL): microjoules since some moment, with their ranges.

    A package is a processor with its caches, without memory; sub-zones (cores alone) would count twice. What else runs
    on the machine counts too.
    """

    files: tuple[tuple[Path, int], ...]

    @classmethod
    def find(cls, root: Path = ROOT) -> Counters | None:
        """Return the readable counters; None where there are none, as in most virtual machines."""
        found = []
        for zone in sorted(root.glob("*-rapl:*")):
            if zone.name.count(":") != 1:
                continue
            try:
                (zone / "energy_uj").read_text()
                found.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
            except (OSError, ValueError):  # only root may read them since Linux 5.10
                continue
        return cls(tuple(found)) if found else None

    def read(self) -> tuple[int, ...]:
        """Return each counter's microjoules."""
        return tuple(int(file.read_text()) for file, _ in self.files)

    def drawn(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the millijoules between two readings, all packages together; a counter begins anew at its range."""
        ranges = (limit for _, limit in self.files)
        return sum((b - a) % limit for a, b, limit in zip(before, after, ranges, strict=True)) / 1e3
