"""Every pass there is, and the type of any of them."""

from typing import Annotated

from pydantic import Field

from compress.passes.base import Pass
from compress.passes.distill import Distill
from compress.passes.export import Export
from compress.passes.factorize import Factorize
from compress.passes.finetune import Finetune
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.passes.vocabulary import Vocabulary

AnyPass = Annotated[
    Finetune | Distill | Vocabulary | Prune | Factorize | Quantize | Export, Field(discriminator="pass_")
]

PASSES: dict[str, type[Pass]] = {
    kind.name: kind for kind in (Finetune, Distill, Vocabulary, Prune, Factorize, Quantize, Export)
}

__all__ = [
    "PASSES",
    "AnyPass",
    "Distill",
    "Export",
    "Factorize",
    "Finetune",
    "Prune",
    "Quantize",
    "Vocabulary",
]
