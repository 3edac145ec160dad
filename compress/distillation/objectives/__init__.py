"""What a student is asked to match: one file an objective, its options and its formula."""

from typing import Annotated

from pydantic import Field

from compress.distillation.objectives.attention import AttentionMaps
from compress.distillation.objectives.hidden import Embedding, HiddenStates
from compress.distillation.objectives.relations import Relations
from compress.distillation.objectives.sentence import SentenceCosine

Match = Annotated[
    HiddenStates | Embedding | AttentionMaps | Relations | SentenceCosine, Field(discriminator="objective")
]
"""One thing to match besides the logits; `objective` says which."""

__all__ = ["AttentionMaps", "Embedding", "HiddenStates", "Match", "Relations", "SentenceCosine"]
