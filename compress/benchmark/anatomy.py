"""What benched models are made of, read from their folders' headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compress.benchmark.report import Layer, Model
from compress.benchmark.targets import Target, weight_files
from compress.inspection import Inspection, inspect_model

_KINDS = ("attention", "feed-forward")


def anatomy(targets: Iterable[Target]) -> Iterator[Model]:
    """Yield what each target is made of; those without safetensors weights are left out.

    Raises:
        FolderError: a folder is damaged.
    """
    for target in targets:
        if not weight_files(target.folder):
            continue
        found = inspect_model(str(target.folder))
        yield Model(
            name=target.name,
            bytes={name: part.bytes for name, part in found.parts.items()},
            layers=tuple(_layers(found)),
            attended=sum(sum(part.units) * part.width for part in found.prunable if part.kind == "attention"),
            steps=tuple((record.name, record.input_hash) for record in found.history),
        )


def _layers(found: Inspection) -> Iterator[tuple[Layer, ...]]:
    units: dict[str, tuple[int, ...]] = {}
    for part in found.prunable:
        units.setdefault(part.kind, part.units)  # a decoder's cross-attention comes second
    for number, parts in enumerate(found.by_layer):
        layer = []
        for kind in _KINDS:
            if kind in parts and parts[kind].parameters:
                counted = units.get(kind, ())
                layer.append(
                    Layer(
                        kind=kind,
                        units=counted[number] if len(counted) == len(found.by_layer) else None,
                        parameters=parts[kind].parameters,
                        bits=8 * parts[kind].bytes / parts[kind].parameters,
                    )
                )
        yield tuple(layer)
