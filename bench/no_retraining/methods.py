"""Which methods are measured, at which shares, and the script behind each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.no_retraining.models import ROOT

Kind = Literal["dense", "prune", "factorize"]

# Share of the layers' weights to remove, or of them to keep.
SHARES: dict[Kind, tuple[float, ...]] = {
    "dense": (0.0,),
    "prune": (0.25, 0.5, 0.7),
    "factorize": (0.75, 0.5, 0.35),
}
RECOVERED_SHARE = 0.5
PEERS = ROOT / "bench" / "peers"
OURS = Path(__file__).with_name("ours.py")


@dataclass(frozen=True)
class Method:
    """One line of a table.

    Attributes:
        title: what the table calls it.
        kind: which table it is in.
        script: what runs it, see `bench/peers/protocol.py`. Beside a peer's script lies its
            `requirements.txt`; without one it runs in this environment.
        variant: which of the script's methods.
        recovers: whether it trains for one epoch after.
    """

    title: str
    kind: Kind
    script: Path
    variant: str
    recovers: bool = False

    @property
    def requirements(self) -> Path | None:
        """The peer's pinned environment."""
        path = self.script.with_name("requirements.txt")
        return path if path.exists() else None

    @property
    def shares(self) -> tuple[float, ...]:
        """At which shares it is measured."""
        return (RECOVERED_SHARE,) if self.recovers else SHARES[self.kind]


DENSE = "dense"
METHODS = {
    DENSE: Method("dense", "dense", PEERS / "dense" / "run.py", ""),
    "ours-prune": Method("**ours, pruned**", "prune", OURS, "prune"),
    "textpruner-uneven": Method(
        "TextPruner, iterative, uneven", "prune", PEERS / "textpruner" / "run.py", "uneven"
    ),
    "textpruner-even": Method(
        "TextPruner, iterative, even", "prune", PEERS / "textpruner" / "run.py", "even"
    ),
    "tp-taylor": Method(
        "Torch-Pruning Taylor, global", "prune", PEERS / "torch-pruning" / "run.py", "taylor"
    ),
    "tp-magnitude": Method(
        "Torch-Pruning magnitude, uniform", "prune", PEERS / "torch-pruning" / "run.py", "magnitude"
    ),
    "random": Method("random, uniform (control)", "prune", PEERS / "torch-pruning" / "run.py", "random"),
    "ours-factorize": Method("**ours, factorized**", "factorize", OURS, "factorize"),
    "svd-whitened": Method("whitened SVD, uniform ranks", "factorize", PEERS / "svd" / "run.py", "whitened"),
    "svd-plain": Method("plain SVD, uniform ranks", "factorize", PEERS / "svd" / "run.py", "plain"),
    "ours-prune-teacher": Method("ours, pruned, teacher's answers", "prune", OURS, "prune-teacher", True),
    "ours-prune-labels": Method("ours, pruned, labels alone", "prune", OURS, "prune-labels", True),
    "ours-factorize-teacher": Method(
        "ours, factorized, teacher's answers", "factorize", OURS, "factorize-teacher", True
    ),
    "ours-factorize-labels": Method(
        "ours, factorized, labels alone", "factorize", OURS, "factorize-labels", True
    ),
}
