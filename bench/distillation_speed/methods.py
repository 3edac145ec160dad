"""Which methods are timed, and the script behind each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.no_retraining.methods import PEERS

OURS = Path(__file__).with_name("ours.py")


@dataclass(frozen=True)
class Method:
    """One line of the table.

    Attributes:
        title: what the table calls it.
        script: what runs it, see `bench/peers/distilling.py`; beside a peer's lies its `requirements.txt`.
        variant: which of the script's methods.
    """

    title: str
    script: Path
    variant: str = ""

    @property
    def requirements(self) -> Path | None:
        """The peer's pinned environment; None for this one."""
        path = self.script.with_name("requirements.txt")
        return path if path.exists() else None


TEXTBREWER = PEERS / "textbrewer" / "run.py"
METHODS = {
    "ours": Method("**ours**", OURS, "default"),
    "plain": Method("plain loop, every row padded", PEERS / "plain" / "run.py"),
    "textbrewer": Method("TextBrewer GeneralDistiller", TEXTBREWER, "general"),
    "textbrewer-padded": Method(
        "TextBrewer GeneralDistiller, every row padded", TEXTBREWER, "general-padded"
    ),
    "textbrewer-cached": Method("TextBrewer BasicDistiller, cached logits", TEXTBREWER, "basic-cached"),
    "ours-float32": Method("ours, float32", OURS, "float32"),
    "ours-every-step": Method("ours, teacher at every step", OURS, "every-step"),
    "ours-every-step-float32": Method("ours, teacher at every step, float32", OURS, "every-step-float32"),
}
DEFAULT = ("ours", "plain", "textbrewer", "textbrewer-padded", "textbrewer-cached")
