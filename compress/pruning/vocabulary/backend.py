"""The tokenizer's own JSON: which ids it names, and the same tokenizer with fewer of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import CompressError, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# What `tokenizers.Tokenizer.to_str` gives, parsed.
State = dict[str, Any]

MODELS = ("WordPiece", "BPE", "Unigram", "WordLevel")


def state_of(tokenizer: PreTrainedTokenizerBase) -> State:
    """Return a tokenizer's JSON.

    Raises:
        InputError: it is written in Python ("slow") and has none, or its model is of an unknown kind.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"{type(tokenizer).__name__} is not built on the tokenizers library, so its pieces cannot be changed",
            place="tokenizer",
            remedy="Convert it to a tokenizer.json first, or leave the vocabulary as it is.",
        )
    state: State = json.loads(_backend(tokenizer).to_str())
    if state["model"]["type"] not in MODELS:
        raise InputError(
            f"a tokenizer of the kind {state['model']['type']} cannot be made smaller",
            place="tokenizer",
            remedy=f"Kinds that can: {', '.join(MODELS)}.",
        )
    return state


def plain_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return a copy of the Rust tokenizer that neither cuts nor pads."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(_backend(tokenizer).to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def piece_ids(state: State) -> dict[str, int]:
    """Map every piece of a tokenizer, added tokens included, to its id."""
    vocab = state["model"]["vocab"]
    ids = {entry[0]: index for index, entry in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    return ids | {token["content"]: token["id"] for token in state["added_tokens"]}


def unknown_id(state: State) -> int | None:
    """Return the id of the piece that stands for what no piece spells; None where there is none."""
    model = state["model"]
    if model["type"] == "Unigram":
        index: int | None = model["unk_id"]
        return index
    return piece_ids(state).get(model.get("unk_token") or "")


def named_ids(state: State) -> set[int]:
    """Return the ids that a tokenizer names outside its vocabulary: added tokens, templates, padding, unknown."""
    seen = set[int]()

    def note(index: int) -> int:
        seen.add(index)
        return index

    _renumbered(state, note)
    unknown = unknown_id(state)
    return seen if unknown is None else seen | {unknown}


def with_ids(state: State, new_id: Mapping[int, int]) -> State:
    """Return a tokenizer's JSON with only the pieces in `new_id`, under their new ids.

    BPE keeps the merges whose parts and result stay, in their order.

    Args:
        state: the JSON; left as it is.
        new_id: new id by old one for every piece that stays; ascending, and all of `named_ids` are in it.
    """
    model = dict(state["model"])
    if isinstance(model["vocab"], list):
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in new_id]
    else:
        model["vocab"] = {piece: new_id[index] for piece, index in model["vocab"].items() if index in new_id}
    if model["type"] == "BPE":
        known, prefix = model["vocab"], model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if left in known and right in known and left + right.removeprefix(prefix) in known
        ]
    return _renumbered({**state, "model": model}, new_id.__getitem__)


def rebuilt(
    tokenizer: PreTrainedTokenizerBase, state: State, config: PretrainedConfig
) -> PreTrainedTokenizerBase:
    """Return the tokenizer that stock transformers makes of the other's folder with `state` in it.

    Args:
        tokenizer: gives everything but the pieces: class, special tokens, inputs, padding side, templates.
        state: the JSON of the new one.
        config: the model's, which `AutoTokenizer` chooses the class by.

    Raises:
        CompressError: what transformers reads has other ids than `state`.
    """
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        config.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        new: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    new.name_or_path = tokenizer.name_or_path
    expected = piece_ids(state)
    if new.get_vocab() != expected:
        found = new.get_vocab()
        piece = next(piece for piece in {**expected, **found} if expected.get(piece) != found.get(piece))
        raise CompressError(
            f"{type(tokenizer).__name__} builds other ids than its tokenizer.json: {piece!r} is "
            f"{found.get(piece)}, not {expected.get(piece)}",
            place="tokenizer",
            remedy="Leave this model's vocabulary as it is, and report it with the model's name.",
        )
    return new


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    backend: Tokenizer = tokenizer.backend_tokenizer
    return backend


def _renumbered(state: State, new: Callable[[int], int]) -> State:
    """Pass every id outside the vocabulary through `new`."""
    out = dict(state)
    out["added_tokens"] = [{**token, "id": new(token["id"])} for token in state["added_tokens"]]
    if state["padding"]:
        out["padding"] = {**state["padding"], "pad_id": new(state["padding"]["pad_id"])}
    out["post_processor"] = _processor(state["post_processor"], new)
    if state["model"]["type"] == "Unigram" and state["model"]["unk_id"] is not None:
        out["model"] = {**state["model"], "unk_id": new(state["model"]["unk_id"])}
    return out


def _processor(processor: dict[str, Any] | None, new: Callable[[int], int]) -> dict[str, Any] | None:
    if processor is None:
        return None
    out = dict(processor)
    if processor["type"] == "Sequence":
        out["processors"] = [_processor(part, new) for part in processor["processors"]]
    elif processor["type"] == "TemplateProcessing":
        out["special_tokens"] = {
            name: {**token, "ids": [new(index) for index in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    elif processor["type"] in ("BertProcessing", "RobertaProcessing"):
        for name in ("sep", "cls"):
            token, index = processor[name]
            out[name] = [token, new(index)]
    return out
