"""The models that augmentation reads, each with the one thing it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from compress.errors import InputError, first_line

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 32  # texts a forward pass
_UNBOUNDED = 512  # tokens that are read where the model could read any number


def load_with_head(
    name: str, head: str, what: str, device: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model with the head that it was trained with.

    Args:
        name: see `compress.sources.resolve_model`.
        head: transformers' class, `AutoModelForMaskedLM` for example.
        what: what such a model is, for messages.
        device: where it goes.

    Returns:
        The model in eval mode and its tokenizer.

    Raises:
        InputError: there is no such model, or it has no such head.
    """
    import transformers

    from compress import reload
    from compress.sources import resolve_model

    folder = resolve_model(name).path
    reload.install()
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # its table of missing weights; the first of them is in our message
    refusal = f"{name} is not {what}"
    remedy = "Name a model that was trained as one, or take another method of augmentation"
    try:
        model, loaded = getattr(transformers, head).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{refusal} ({first_line(error)})", place="augmentation", remedy=remedy) from error
    finally:
        transformers.logging.set_verbosity(verbosity)
    if loaded["missing_keys"]:
        missing = f"its weights lack {min(loaded['missing_keys'])}"
        raise InputError(f"{refusal}: {missing}", place="augmentation", remedy=remedy)
    return model.eval().to(device), tokenizer


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens both can do; 512 where neither sets a bound, as T5."""
    from compress.architectures import positions_of

    return min(tokenizer.model_max_length, positions_of(model.config) or _UNBOUNDED)


def embedding_table(name: str) -> tuple[Tensor, PreTrainedTokenizerBase]:
    """Return the embedding of each of a model's tokens, (tokens, width) float32, and its tokenizer.

    Raises:
        InputError: there is no such model.
    """
    import torch

    from compress.artifact import load

    artifact = load(name)
    embedding: Any = artifact.model.get_input_embeddings()
    with torch.inference_mode():  # by its forward, which a factorized table has too
        return embedding(torch.arange(len(artifact.tokenizer))).float(), artifact.tokenizer


def by_length(texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield batches of the texts' indices, texts of like length together."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]
