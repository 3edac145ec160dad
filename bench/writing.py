"""What a result ends with, and how it is written."""

from __future__ import annotations

import sys
from pathlib import Path

from compress.hardware import fingerprint


def machine_line() -> str:
    """Name the processor and the versions of what ran."""
    machine = fingerprint()
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flags = " ".join(machine["cpu_flags"])
    return (
        f"{machine['processor']}, {machine['cores']} cores ({flags}); Python {machine['python']}, {versions}."
    )


def write_result(text: str, out: Path) -> None:
    """Write a table to its file, and print it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
