"""Back-translation: into another language and back."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.data.augmentation.models import by_length, load_with_head, longest_input

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class BackTranslation(Augmentation, frozen=True):
    """Translate a text into another language and back, by two models that the user names.

    Source: Sennrich et al. 2016 ("Improving neural machine translation models with monolingual data"), as
    augmentation in Xie et al. 2020 (UDA, section 2.2). Both ways by beam search, and a copy takes one of the
    `beams` best ways back, drawn by lot, so no model needs a source of randomness of its own.

    Example:
        - {method: back-translation, there: runs/opus-mt-en-de, back: runs/opus-mt-de-en}
        - {method: back-translation, there: t5-small, there_prefix: "translate English to German: ", back: …}
    """

    method: Literal["back-translation"] = "back-translation"
    there: str = Field(description="a model that translates into the other language")
    back: str = Field(description="a model that translates from it")
    there_prefix: str = Field("", description="what T5 is told before each text on the way there")
    back_prefix: str = Field("", description="and on the way back")
    beams: PositiveInt = Field(4, description="beams, and ways back to draw from")

    def model_names(self) -> tuple[str, ...]:
        """Return both models."""
        return (self.there, self.back)

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Load both models."""
        what = "a model that translates"
        there = load_with_head(self.there, "AutoModelForSeq2SeqLM", what, device)
        back = load_with_head(self.back, "AutoModelForSeq2SeqLM", what, device)

        def rewrite(texts: Sequence[str], generators: Sequence[Random]) -> list[str]:
            out = list(texts)
            for batch in by_length(texts):
                foreign = _best(*there, [self.there_prefix + texts[i] for i in batch], self.beams, 1)
                again = _best(*back, [self.back_prefix + ways[0] for ways in foreign], self.beams, self.beams)
                for i, ways in zip(batch, again, strict=True):
                    out[i] = generators[i].choice(ways) or texts[i]
            return out

        return rewrite


def _best(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], beams: int, ways: int
) -> list[list[str]]:
    """Return the likeliest translations of each text, the best first."""
    import torch

    longest = longest_input(model, tokenizer)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    # A model that finds no end would go on for ever; the first token out is none of the new ones.
    most = min(2 * batch["input_ids"].shape[1] + 8, longest - 1)
    with torch.inference_mode():
        ids = model.generate(  # type: ignore[operator]
            **batch.to(model.device),
            num_beams=beams,
            num_return_sequences=ways,
            max_new_tokens=most,
            do_sample=False,
        )
    found = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return [found[start : start + ways] for start in range(0, len(found), ways)]
