"""A model's name resolved to a local folder: a path, a packaged asset, a short alias or a hub id."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.assets import CATALOG, fetch_asset
from compress.errors import InputError

ALIASES = {
    "bert-base": "google-bert/bert-base-uncased",
    "bert-large": "google-bert/bert-large-uncased",
    "distilbert": "distilbert/distilbert-base-uncased",
    "distilroberta": "distilbert/distilroberta-base",
    "minilm-l12": "microsoft/MiniLM-L12-H384-uncased",
    "roberta-base": "FacebookAI/roberta-base",
    "roberta-large": "FacebookAI/roberta-large",
}
"""Short names of well-known hub models."""

# Exactly what a model needs; never a pickle (*.bin), never code (*.py).
_HUB_FILES = [
    "config.json",
    "generation_config.json",
    "manifest.json",
    "model.safetensors",
    "compressed.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
]
_WEIGHTS = ("model.safetensors", "compressed.safetensors", "model.safetensors.index.json")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class ResolvedModel:
    """Where a model was found.

    Args:
        name: as the user wrote it.
        path: a local folder with config, weights and tokenizer.
        origin: how the name was understood; an alias that a hub id stands behind is `hub`.
    """

    name: str
    path: Path
    origin: Literal["folder", "packaged", "hub"]


def resolve_model(name: str) -> ResolvedModel:
    """Find a model: a local folder, else a packaged asset, else an alias, else a hub id.

    Packaged and hub models are downloaded when they are not cached.

    Args:
        name: a path, a packaged name (`minilm-l6`), an alias (`bert-large`) or a hub id (`owner/name`).

    Returns:
        The local folder and what the name turned out to be.

    Raises:
        InputError: nothing answers to the name here; the message lists what was tried and what there is.
    """
    if not name.strip():
        raise InputError("the model's name is empty", remedy=_available())
    folder = Path(name).expanduser()
    known = name in CATALOG or name in ALIASES
    if folder.is_dir() and ((folder / "config.json").is_file() or not known):
        return ResolvedModel(name, _checked_folder(folder), "folder")
    if folder.is_file():
        raise InputError(
            "this is a file; a model is a folder with config.json, weights and tokenizer",
            place=name,
            remedy=f"Give the folder: {folder.parent}",
        )
    if name in CATALOG:
        if CATALOG[name].kind == "data":
            raise InputError(f"{name} is a data set, not a model", remedy=_available())
        return ResolvedModel(name, fetch_asset(name), "packaged")
    if _looks_like_path(name):
        raise InputError("no such folder", place=name, remedy=_near_paths(folder))
    return ResolvedModel(name, _from_hub(name), "hub")


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        models = sorted(path.parent.name for path in folder.glob("*/config.json"))
        remedy = f"Model folders inside it: {', '.join(models[:8])}" if models else "Give a model's folder"
        raise InputError("no config.json in this folder: not a model", place=str(folder), remedy=remedy)
    if not any((folder / file).is_file() for file in _WEIGHTS):
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        cause = "this model folder holds no safetensors weights"
        cause += f", only {pickled[0]}: a pickle can run code, so it is not read" if pickled else ""
        raise InputError(cause, place=str(folder), remedy="Save the model anew with save_pretrained()")
    return folder


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or not _HUB_ID.fullmatch(name)


def _near_paths(folder: Path) -> str:
    """What the user may have meant: names beside the missing folder, from the deepest part that exists."""
    existing = next((parent for parent in folder.parents if parent.is_dir()), Path())
    missing = folder.relative_to(existing).parts[0] if existing != Path() else folder.parts[0]
    folders = (path.name for path in existing.iterdir() if path.is_dir())
    beside = sorted(name for name in folders if not name.startswith("."))
    close = difflib.get_close_matches(missing, beside, n=3)
    shown = close or beside[:8]
    if not shown:
        return f"{existing.resolve()} holds no folders"
    return f"Did you mean {_either(close)}?" if close else f"{existing.resolve()} holds: {', '.join(shown)}"


def _from_hub(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    hub_id = _hub_id(name)
    offline = _offline() or constants.HF_HUB_OFFLINE
    legacy = hub_id.split("/")[-1]  # older caches keep well-known models under their id without owner
    if hub_id in ALIASES.values() and hub_id not in hub_cached_models() and legacy in hub_cached_models():
        hub_id, offline = legacy, True
    try:
        # The cache folder is read from the environment when asked, not when huggingface_hub was imported.
        folder = Path(
            snapshot_download(
                hub_id,
                allow_patterns=_HUB_FILES,
                ignore_patterns=["*/*"],
                cache_dir=hub_cache(),
                local_files_only=offline,
            )
        )
    except LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be reached: {_innermost(error)}"
        raise _not_found(name, f"not in the local hub cache, and {reason}") from error
    except GatedRepoError as error:
        raise InputError(
            "the hub asks for permission to download this model",
            place=hub_id,
            remedy="Accept its terms on the hub, then run: hf auth login",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise _not_found(name, "the hub knows no such model (or it is private)") from error
    except (HfHubHTTPError, OSError) as error:
        raise _not_found(name, f"the hub failed: {_first_line(error)}") from error
    missing = "config.json" if not (folder / "config.json").is_file() else ""
    if not missing and not any((folder / file).is_file() for file in _WEIGHTS):
        missing = "safetensors weights (a pickled pytorch_model.bin can run code, so it is never read)"
    if missing:
        raise InputError(
            f"the hub model has no {missing}",
            place=hub_id,
            remedy="Take a model with model.safetensors, or convert this one and give its local folder",
        )
    return folder


def hub_cache() -> Path:
    """The Hugging Face hub's cache folder, from the environment as it is now."""
    if chosen := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface"
    return Path(home).expanduser() / "hub"


def hub_cached_models() -> list[str]:
    """Ids of the models in the local hub cache that hold a config, sorted."""
    folders = {path.parents[2].name for path in hub_cache().glob("models--*/snapshots/*/config.json")}
    return sorted(name.removeprefix("models--").replace("--", "/") for name in folders)


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _hub_id(name: str) -> str:
    """The full hub id behind an alias or behind a well-known id without its owner."""
    known = {target.split("/")[1]: target for target in ALIASES.values()} | ALIASES
    return known.get(name, name)


def _not_found(name: str, hub_reason: str) -> InputError:
    hub_id = _hub_id(name)
    alias = f"alias: stands for {hub_id}" if hub_id != name else "alias: no"
    tried = f"tried local folder: no; packaged model: no; {alias}; hub id {hub_id}: {hub_reason}"
    cached = hub_cached_models()
    candidates = {*_packaged(), *ALIASES, *cached}
    if "/" in name and (parent := Path(name).parent).is_dir():
        candidates |= {str(folder.parent) for folder in parent.glob("*/config.json")}
    close = difflib.get_close_matches(name, candidates, n=3)
    suggestion = f"Did you mean {_either(close)}? " if close and name not in candidates else ""
    return InputError(f"no such model here ({tried})", place=name, remedy=suggestion + _available())


def _available() -> str:
    cached = hub_cached_models()
    text = f"Packaged models that can be had here: {', '.join(_packaged())}"
    return text + (f"; in the hub cache: {', '.join(cached[:20])}" if cached else "; the hub cache is empty")


def _packaged() -> list[str]:
    return [asset.name for asset in CATALOG.values() if asset.kind == "model"]


def _either(names: list[str]) -> str:
    return " or ".join(names)


def _innermost(error: BaseException) -> str:
    while inner := error.__cause__ or error.__context__:
        error = inner
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
