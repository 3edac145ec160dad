"""New texts from given ones, without labels: one file a method."""

from typing import Annotated

from pydantic import Field

from compress.data.augmentation.base import Augmentation
from compress.data.augmentation.crop import SpanCrop
from compress.data.augmentation.deletion import SpanDeletion
from compress.data.augmentation.masked_words import MaskedWords
from compress.data.augmentation.mix import SpanMix
from compress.data.augmentation.near_texts import NearTexts
from compress.data.augmentation.neighbours import NeighbourWords
from compress.data.augmentation.run import augment
from compress.data.augmentation.shuffle import SentenceShuffle
from compress.data.augmentation.swap import WordSwap
from compress.data.augmentation.translation import BackTranslation

AnyAugmentation = Annotated[
    SpanDeletion
    | SpanCrop
    | SpanMix
    | WordSwap
    | SentenceShuffle
    | NeighbourWords
    | NearTexts
    | MaskedWords
    | BackTranslation,
    Field(discriminator="method"),
]

__all__ = [
    "AnyAugmentation",
    "Augmentation",
    "BackTranslation",
    "MaskedWords",
    "NearTexts",
    "NeighbourWords",
    "SentenceShuffle",
    "SpanCrop",
    "SpanDeletion",
    "SpanMix",
    "WordSwap",
    "augment",
]
