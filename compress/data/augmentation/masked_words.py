"""Words replaced by what a masked language model would say in their place."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from re import Match
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from compress.data.augmentation.base import Augmentation, Corpus, Rewrite
from compress.data.augmentation.models import by_length, load_with_head, longest_input
from compress.data.augmentation.words import count, replaced, spelled, whole_words
from compress.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class MaskedWords(Augmentation, frozen=True):
    """Mask some words and draw others that a masked language model finds likely there.

    Source: Jiao et al. 2020 (TinyBERT, section 3.2 and algorithm 1), the part that a language model does; here all
    words to replace are masked at once, as in Wu et al. 2019 (conditional BERT), which is one pass a text. A word
    is drawn among the `top_k` likeliest that are one whole token, the old word left out, each with its
    probability. Equal seeds give equal texts up to ties within floating-point rounding, as a
    batch's padding moves the last bits of a probability.

    Example:
        - {method: masked-words, model: distilbert, rate: 0.2}
    """

    method: Literal["masked-words"] = "masked-words"
    model: str = Field(description="a masked language model at hand")
    rate: float = Field(0.2, gt=0, lt=1, description="share of the words to replace")
    top_k: PositiveInt = Field(15, description="words to draw from")

    def model_names(self) -> tuple[str, ...]:
        """Return the language model."""
        return (self.model,)

    def prepare(self, device: str, corpus: Corpus) -> Rewrite:
        """Load the language model."""
        import torch

        model, tokenizer = load_with_head(
            self.model, "AutoModelForMaskedLM", "a masked language model", device
        )
        if tokenizer.mask_token is None:
            raise InputError(
                f"the tokenizer of {self.model} has no mask token",
                place="augmentation",
                remedy="Name another model.",
            )
        words = whole_words(tokenizer)
        ids = torch.tensor(sorted(words))
        names = [words[i] for i in sorted(words)]

        def rewrite(texts: Sequence[str], generators: Sequence[Random]) -> list[str]:
            chosen = [
                _choose(text, self.rate, generator) if tokenizer.mask_token not in text else []
                for text, generator in zip(texts, generators, strict=True)
            ]
            out = list(texts)
            for batch in by_length(texts):
                masked = [_masked(texts[i], chosen[i], str(tokenizer.mask_token)) for i in batch]
                for i, logits in zip(batch, mask_logits(model, tokenizer, masked), strict=True):
                    # A mask that was cut off at the end of a long text has no logits, and its word stays.
                    drawn = {
                        word: _draw(row[ids], names, word.group(), self.top_k, generators[i])
                        for word, row in zip(chosen[i], logits, strict=False)
                    }
                    out[i] = replaced(texts[i], drawn)
            return out

        return rewrite


def mask_logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Tensor]:
    """Return the logits at the masks of each text, (masks, tokens) float32 on the CPU, in the order of the masks."""
    import torch

    longest = longest_input(model, tokenizer)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**batch.to(model.device)).logits.float().cpu()
    masks = (batch["input_ids"] == tokenizer.mask_token_id).cpu()
    return [row[mask] for row, mask in zip(logits, masks, strict=True)]


def _choose(text: str, rate: float, generator: Random) -> list[Match[str]]:
    words = spelled(text)
    chosen = generator.sample(range(len(words)), min(count(rate, len(words)), len(words)))
    return [words[index] for index in sorted(chosen)]


def _masked(text: str, words: list[Match[str]], mask: str) -> str:
    for word in reversed(words):
        text = text[: word.start()] + mask + text[word.end() :]
    return text


def _draw(logits: Tensor, names: list[str], old: str, top_k: int, generator: Random) -> str:
    """Draw one of the likeliest words that are not the old one; `logits` (words,) goes with `names`."""
    same = sum(name.casefold() == old.casefold() for name in names)
    values, indices = logits.topk(min(top_k + same, len(names)))
    likely = zip((names[index] for index in indices.tolist()), values.softmax(0).tolist(), strict=True)
    others = dict([pair for pair in likely if pair[0].casefold() != old.casefold()][:top_k])
    return generator.choices(list(others), list(others.values()))[0] if others else old
