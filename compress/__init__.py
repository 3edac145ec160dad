"""compress: distil, prune, factorize and quantize transformers, with the proof.

Importing this package makes plain `AutoModel….from_pretrained` open compressed folders. Everything else is
imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compress import reload

if TYPE_CHECKING:
    from compress.api import distill, export, factorize, finetune, prune, quantize, vocabulary
    from compress.artifact import Artifact, load, save
    from compress.passes.catalog import Distill, Export, Factorize, Finetune, Prune, Quantize, Vocabulary
    from compress.recipe import Recipe
    from compress.running import run

reload.install()

_WHERE = {
    **dict.fromkeys(("finetune", "distill", "vocabulary", "prune", "factorize", "quantize", "export"), "api"),
    "Artifact": "artifact",
    "load": "artifact",
    "save": "artifact",
    "Recipe": "recipe",
    "run": "running",
    "Distill": "passes.catalog",
    "Export": "passes.catalog",
    "Factorize": "passes.catalog",
    "Finetune": "passes.catalog",
    "Prune": "passes.catalog",
    "Quantize": "passes.catalog",
    "Vocabulary": "passes.catalog",
}

__all__ = [
    "Artifact",
    "Distill",
    "Export",
    "Factorize",
    "Finetune",
    "Prune",
    "Quantize",
    "Recipe",
    "Vocabulary",
    "distill",
    "export",
    "factorize",
    "finetune",
    "load",
    "prune",
    "quantize",
    "run",
    "save",
    "vocabulary",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _WHERE:
        raise AttributeError(f"module 'compress' has no attribute {name!r}")
    value = getattr(import_module(f"compress.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
