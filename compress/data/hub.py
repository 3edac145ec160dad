"""Hub data sets: `owner/name`, `owner/name/config`, and the short names of well-known benchmarks."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from compress.data.local import tables_of
from compress.data.packaged import packaged_names
from compress.data.raw_text import raw_names
from compress.data.table import Table
from compress.errors import InputError

_FAMILIES = {"glue": "nyu-mll/glue", "super_glue": "aps/super_glue", "tweet_eval": "cardiffnlp/tweet_eval"}
_SHORT = {
    "ag_news": "fancyzhx/ag_news",
    "imdb": "stanfordnlp/imdb",
    "rotten_tomatoes": "cornell-movie-review-data/rotten_tomatoes",
    "snli": "stanfordnlp/snli",
    "sst2": "stanfordnlp/sst2",
}
_PROBE_SECONDS = 10.0


def hub_names(source: str) -> list[tuple[str, str | None]]:
    """(hub id, config or None) that a source may stand for, the likeliest first.

    `glue/sst2` is a config of `nyu-mll/glue`; older caches keep that set under plain `glue`.
    """
    parts = source.split("/")
    if parts[0] in _FAMILIES and len(parts) == 2:
        return [(_FAMILIES[parts[0]], parts[1]), (parts[0], parts[1])]
    if len(parts) == 3:
        return [("/".join(parts[:2]), parts[2])]
    return [(_SHORT[source], None), (source, None)] if source in _SHORT else [(source, None)]


def read_hub(source: str) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Download a hub data set, or read it from the local cache where the hub does not answer.

    Args:
        source: `owner/name`, `owner/name/config`, `glue/sst2`, `imdb`.

    Returns:
        Tables by split; notes.

    Raises:
        InputError: it is neither on the hub nor in the cache, or it needs a config to be named.
    """
    import datasets

    names = hub_names(source)
    unreachable = _unreachable(names[0][0])
    reason = ""
    for hub_id, config in names:
        try:
            loaded = _load(hub_id, config, cached_only=bool(unreachable))
        except (OSError, ValueError, RuntimeError) as error:
            if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
                raise InputError(
                    _first_line(error), place=source, remedy=f"Name one of its configs: {hub_id}/CONFIG"
                ) from error
            reason = reason or _first_line(error)
            continue
        if isinstance(loaded, datasets.Dataset | datasets.DatasetDict):
            return tables_of(loaded, source, editable=False)
    tried = f"tried local file or folder: no; packaged data: no; hub data set {names[0][0]}: "
    tried += f"{unreachable}, and it is not in the local cache" if unreachable else reason
    close = difflib.get_close_matches(source, [*packaged_names(), *raw_names()], n=2)
    suggestion = f"Did you mean {' or '.join(close)}? " if close else ""
    raise InputError(f"no such data here ({tried})", place=source, remedy=suggestion + _available())


def _unreachable(hub_id: str) -> str:
    """Why the hub does not answer, or nothing. `datasets` itself would retry for half a minute."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    try:
        HfApi().dataset_info(hub_id, timeout=_PROBE_SECONDS)
    except HfHubHTTPError:
        pass  # an answer, if a refusal: loading tells it better
    except Exception as error:  # of whichever HTTP client this version of huggingface_hub is built on
        return f"the hub cannot be reached ({_first_line(error)})"
    return ""


def _load(hub_id: str, config: str | None, *, cached_only: bool) -> object:
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = cached_only or before
    try:
        return datasets.load_dataset(hub_id, config)
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _available() -> str:
    cached = _cached()
    text = f"Packaged data that can be had here: {', '.join(packaged_names())}"
    text += f"; without labels: {', '.join(raw_names())}"
    return text + (f"; in the hub's data cache: {', '.join(cached[:20])}" if cached else "")


def _cached() -> list[str]:
    import datasets

    folders = Path(datasets.config.HF_DATASETS_CACHE).glob("*/*/*/*/dataset_info.json")
    return sorted({f"{path.parents[3].name.replace('___', '/')}/{path.parents[2].name}" for path in folders})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
