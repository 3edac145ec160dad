"""The hook through which plain `AutoModel….from_pretrained` rebuilds a compressed folder.

transformers asks a registered quantizer to reshape the empty model before the weights are loaded; ours applies
the structure that `config.json` carries under `quantization_config`. `install()` costs nothing: it registers
at once where transformers is loaded already, and otherwise when it is.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

METHOD = "compress"
WEIGHTS = "compressed.safetensors"
_QUANTIZED = ("Int8", "StaticInt8", "WeightOnly")  # what the types of quantized layers begin with
_TRIGGER = "transformers.quantizers.auto"


def structure_in(config: Any) -> dict[str, dict[str, Any]]:
    """Return the structure that a model's config carries; empty for an ordinary model."""
    stored = getattr(config, "quantization_config", None) or {}
    structure: dict[str, dict[str, Any]] = stored.get("structure", {}) if isinstance(stored, dict) else {}
    return structure


def is_quantized(config: Any) -> bool:
    """Say whether a model's config is that of a model with quantized layers."""
    return any(entry["type"].startswith(_QUANTIZED) for entry in structure_in(config).values())


def install() -> None:
    """Make `from_pretrained` understand our folders, now or once transformers is imported."""
    if _TRIGGER in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Watches for the import of transformers' quantizer table and registers right after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _TRIGGER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Runs the real loader, then registers."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register()


def _register() -> None:
    from transformers.quantizers.auto import (
        AUTO_QUANTIZER_MAPPING,
        register_quantization_config,
        register_quantizer,
    )
    from transformers.quantizers.base import HfQuantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin

    if METHOD in AUTO_QUANTIZER_MAPPING:
        return

    class CompressConfig(QuantizationConfigMixin):
        """`quantization_config` of a compressed folder."""

        def __init__(self, structure: dict[str, Any] | None = None, version: int = 1, **kwargs: Any) -> None:
            super().__init__(quant_method=METHOD)  # type: ignore[arg-type]
            self.structure, self.version = structure or {}, version

    class CompressQuantizer(HfQuantizer):
        """Applies the structure before the weights are loaded."""

        quantization_config: CompressConfig

        def update_attn_implementation(self, config: Any) -> Any:
            # The first thing from_pretrained calls, before it looks for weight files: name ours here. Stock
            # transformers, which lacks this hook, finds no `model.safetensors` and stops.
            config.transformers_weights = WEIGHTS
            return config

        def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
            from compress.structure import apply

            apply(model, self.quantization_config.structure)

        def is_serializable(self) -> bool:
            # save_pretrained would write `model.safetensors`, which stock code would load wrongly.
            return False

        @property
        def is_trainable(self) -> bool:
            kinds = {entry["type"] for entry in self.quantization_config.structure.values()}
            return not any(kind.startswith(_QUANTIZED) for kind in kinds)

    register_quantization_config(METHOD)(CompressConfig)
    register_quantizer(METHOD)(CompressQuantizer)
