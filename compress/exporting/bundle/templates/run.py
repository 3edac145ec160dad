#!/usr/bin/env python3
"""Classify text with this bundle, one JSON line for each text. Needs onnxruntime, tokenizers and numpy.

    python run.py "a wonderful film" "a dull one"
    python run.py < texts.txt                      # one text a line; a pair as first<TAB>second
    python run.py --verify                         # is every file as it was made?

Exit codes: 0 done, 2 bad input or a damaged bundle (one message on stderr), 130 interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
SETTINGS = "bundle.json"

Text = str | tuple[str, str]


class BundleError(Exception):
    """What the user gave or the bundle holds cannot be used; the message says what to do."""


def main() -> int:
    """Answer the command line; return the exit code."""
    options = _options()
    try:
        if options.verify:
            count = verify(HERE)
            print(f"all {count} files are as they were made")
            return 0
        classifier = Classifier(HERE, options.threads)
        texts = read_texts(options.text, options.file, classifier.settings["pair"])
        for batch in _batches(texts, options.batch_size):
            for answer in classifier(batch):
                print(json.dumps(answer, ensure_ascii=False), flush=True)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", nargs="*", help="texts; a model of pairs takes them two by two")
    parser.add_argument("--file", metavar="F", help="read texts from this file, one a line; default: stdin")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="threads (default: 1)")
    parser.add_argument(
        "--batch-size",
        type=_count,
        default=1,
        metavar="N",
        help="texts in one call (default: 1; int8 models round a batch together, so answers then depend a "
        "little on the neighbours)",
    )
    parser.add_argument("--verify", action="store_true", help="check all files against SHA256SUMS and stop")
    options = parser.parse_args()
    if options.text and options.file:
        parser.error("give texts or --file, not both")
    return options


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


class Classifier:
    """The model of a bundle.

    Args:
        folder: the bundle.
        threads: that one operator may use.

    Raises:
        BundleError: a file is missing or changed, or this onnxruntime cannot run the model.
    """

    def __init__(self, folder: Path = HERE, threads: int = 1) -> None:
        sums = read_sums(folder)
        check(folder, [SETTINGS], sums)
        self.settings = read_settings(folder)
        model, tokenizer = self.settings["model"], self.settings["tokenizer"]
        weights = [name for name in sums if name.startswith(f"{model}.")]  # beside the graph, beyond 2 GB
        check(folder, [model, tokenizer, *weights], sums)
        self.session = _open_session(folder / model, threads)
        self.inputs = [entry.name for entry in self.session.get_inputs()]
        self.tokenizer = _open_tokenizer(folder / tokenizer, self.settings)

    def __call__(self, texts: list[Text]) -> list[dict[str, Any]]:
        """Answer texts in one call: a label with scores, the labels above one half, or a value."""
        return [_answer(row, self.settings) for row in self.logits(texts)]

    def logits(self, texts: list[Text]) -> Any:
        """Return the model's raw output, float32 (texts, labels)."""
        import numpy as np

        encoded = self.tokenizer.encode_batch(texts)
        columns = {
            "input_ids": [row.ids for row in encoded],
            "attention_mask": [row.attention_mask for row in encoded],
            "token_type_ids": [row.type_ids for row in encoded],
        }
        feeds = {name: np.array(columns[name], dtype=np.int64) for name in self.inputs}
        return self.session.run(["logits"], feeds)[0]


def verify(folder: Path) -> int:
    """Check all files that SHA256SUMS names and return their number.

    Raises:
        BundleError: one is missing, changed or outside the folder.
    """
    sums = read_sums(folder)
    check(folder, sums, sums)
    return len(sums)


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of the bundle, by its name relative to `folder`."""
    sums = {}
    for number, line in enumerate(_read(folder, SUMS).splitlines(), 1):
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            raise BundleError(f"{SUMS}, line {number}: not a sha256 and a name. Copy the bundle again.")
        sums[name] = digest
    return sums


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what `bundle.json` says of the model."""
    try:
        settings = json.loads(_read(folder, SETTINGS))
        known = settings["format"] == 1
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{SETTINGS}: not the settings of a bundle. Copy the bundle again.") from None
    if not known:
        raise BundleError(f"{SETTINGS}: format {settings['format']!r} is not known. Use its own run.py.")
    return dict(settings)


def check(folder: Path, names: Iterable[str], sums: dict[str, str]) -> None:
    """Check that files lie in the folder and are as they were made.

    Raises:
        BundleError: one is missing, changed, outside the folder or not in `sums`.
    """
    for name in names:
        path = _inside(folder, name)
        if name not in sums:
            raise BundleError(f"{name}: {SUMS} does not name it. Copy the bundle again.")
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(f"{name}: cannot be read ({error.strerror}). Copy the bundle again.") from None
        if digest != sums[name]:
            raise BundleError(f"{name}: the file was changed, its sha256 differs. Copy the bundle again.")


def read_texts(words: list[str], file: str | None, pair: bool | None) -> Iterator[Text]:
    """Yield the texts of the command line, else those of a file or stdin, a line each.

    Args:
        words: texts of the command line; two by two where `pair` is true.
        file: name of a UTF-8 file; None for stdin.
        pair: whether the model reads pairs; None where that is not known: then a tab makes a pair.

    Raises:
        BundleError: a pair lacks its second text, or the file cannot be read.
    """
    if words and pair:
        if len(words) % 2:
            raise BundleError("the model reads pairs of texts. Give them two by two.")
        yield from zip(words[::2], words[1::2], strict=True)
        return
    for number, line in enumerate(words or _lines(file), 1):
        first, tab, second = line.partition("\t")
        if pair and not tab:
            raise BundleError(f"line {number}: the model reads pairs. Put a tab between the two texts.")
        yield (first, second) if tab and pair is not False else line


def _lines(file: str | None) -> Iterator[str]:
    try:
        with open(0 if file is None else file, encoding="utf-8") as stream:  # noqa: PTH123 - 0 is stdin
            for line in stream:
                yield line.rstrip("\r\n")
    except OSError as error:
        raise BundleError(
            f"{file or 'stdin'}: cannot be read ({error.strerror}). Give a text file."
        ) from None
    except UnicodeDecodeError:
        raise BundleError(f"{file or 'stdin'}: is not UTF-8 text. Convert it first.") from None


def _batches(texts: Iterator[Text], size: int) -> Iterator[list[Text]]:
    while batch := list(islice(texts, size)):
        yield batch


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BundleError(f"{name}: missing or not readable in {folder}. Copy the bundle again.") from None


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BundleError(f"{name}: the name leads out of the bundle. Do not use this bundle.")
    return path


def _open_session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise _not_installed(error) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised too
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, one for each status code
        reason = str(error).strip().splitlines()[0]
        if "opset" in reason.lower() or "ir version" in reason.lower():
            cause = f"onnxruntime {onnxruntime.__version__} is too old for it ({reason})"
            raise BundleError(f"{path.name}: {cause}. Run: pip install --upgrade onnxruntime") from None
        if "protobuf" in reason.lower():
            raise BundleError(
                f"{path.name}: not a whole ONNX file ({reason}). Copy the bundle again."
            ) from None
        raise BundleError(
            f"{path.name}: onnxruntime {onnxruntime.__version__} cannot open it ({reason}). See README.md."
        ) from None


def _open_tokenizer(path: Path, settings: dict[str, Any]) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise _not_installed(error) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises a bare Exception
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"{path.name}: the tokenizer cannot be read ({reason}).") from None
    padding = settings["padding"]
    tokenizer.enable_truncation(settings["max_length"], direction=settings["truncation_side"])
    tokenizer.enable_padding(direction=padding["side"], pad_id=padding["id"], pad_type_id=padding["type_id"])
    return tokenizer


def _not_installed(error: ImportError) -> BundleError:
    return BundleError(f"{error.name} is not installed. Run: pip install -r {HERE / 'requirements.txt'}")


def _answer(logits: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Turn one row of logits, float32 (labels,), into an answer."""
    import numpy as np

    values = logits.astype(np.float64)
    if settings["task"] == "regression":
        return {"value": float(values[0])}
    if settings["task"] == "multi_label":
        chances = 1 / (1 + np.exp(-values))
        scores = dict(zip(settings["labels"], chances.tolist(), strict=True))
        return {"labels": [label for label, score in scores.items() if score >= 0.5], "scores": scores}
    powers = np.exp(values - values.max())
    scores = dict(zip(settings["labels"], (powers / powers.sum()).tolist(), strict=True))
    best = max(scores, key=lambda label: scores[label])
    return {"label": best, "score": scores[best], "scores": scores}


if __name__ == "__main__":
    sys.exit(main())
