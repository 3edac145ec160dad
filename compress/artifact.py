"""The one object that travels: a model with its tokenizer, task and provenance.

This file is the only code that reads or writes models.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from compress import folders, manifest
from compress.architectures import positions_of
from compress.errors import CompressError, FolderError, InputError
from compress.manifest import Manifest, PassRecord
from compress.reload import METHOD, WEIGHTS
from compress.sources import resolve_model
from compress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# How the names of transformers' classes with a trained head end. A masked language model is the state that most
# encoders are published in: it counts as no head.
_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@dataclass(frozen=True)
class Artifact:
    """A model, what it is for and how it came to be. Every pass takes one and returns one.

    Attributes:
        model: the torch model, in eval mode.
        tokenizer: its own tokenizer.
        manifest: task, data, pass history.
        attachments: further files of the folder by relative name (`onnx/model.onnx`, `bundle/run.py`), copied on save.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    manifest: Manifest
    attachments: dict[str, Path] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task; raises InputError for a model that has no head yet."""
        if self.manifest.task is None:
            raise InputError(
                "the model has no trained head for a task",
                place=self.manifest.source or "model",
                remedy="Fine-tune it first: compress finetune --model M --data D --out DIR.",
            )
        return self.manifest.task

    def evolve(self, **changes: Any) -> Artifact:
        """Return a copy with other fields; manifest fields (task, data, source) may be given directly."""
        fields = {f.name for f in dataclasses.fields(self)}
        inner = {key: value for key, value in changes.items() if key not in fields}
        outer = {key: value for key, value in changes.items() if key in fields}
        if inner:
            outer["manifest"] = outer.get("manifest", self.manifest).model_copy(update=inner)
        return dataclasses.replace(self, **outer)

    def with_record(self, record: PassRecord) -> Artifact:
        """Return a copy whose history ends with `record`."""
        return self.evolve(history=(*self.manifest.history, record))


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest, or derive one from a stock Hugging Face folder's config.

    Raises:
        FolderError: the manifest or the config is not what it should be.
    """
    path = folder / manifest.NAME
    if path.exists():
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise FolderError(
                f"not a valid manifest ({error.errors()[0]['msg']})",
                place=str(path),
                remedy="The folder was altered or written by a newer version; make it again.",
            ) from error
    return Manifest(source=folder.name, task=_task_from_config(read_config(folder)))


def read_config(folder: Path) -> PretrainedConfig:
    """Read `config.json`; raises FolderError where it is missing or unknown to transformers."""
    from transformers import AutoConfig

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return config
    except (OSError, ValueError, KeyError) as error:
        raise FolderError(
            f"cannot read the model's config ({str(error).splitlines()[0]})",
            place=str(folder / "config.json"),
            remedy="Give a folder that transformers can open, with config.json and safetensors weights.",
        ) from error


def verify(folder: Path) -> Manifest:
    """Check every file against the manifest's sha256 and return the manifest.

    Raises:
        FolderError: a file is missing, truncated or altered.
    """
    recorded = read_manifest(folder)
    for name, expected in recorded.files.items():
        path = folder / name
        if not path.is_file():
            raise FolderError("the file is missing", place=str(path), remedy="Copy or make the folder again.")
        if manifest.hash_file(path) != expected:
            raise FolderError(
                "the file was truncated or altered: its sha256 is not the manifest's",
                place=str(path),
                remedy="Copy or make the folder again.",
            )
    return recorded


def content_hash(folder: Path) -> str:
    """Return one hash of a model folder's content, read from its manifest or from its files."""
    recorded = read_manifest(folder)
    return recorded.content_hash if recorded.files else manifest.hash_json(manifest.hash_folder(folder))


def load(name: str | Path, task: Task | None = None, language_model: bool = False) -> Artifact:
    """Load a folder, a packaged model, an alias or a hub id.

    A model without a task's head comes without any head. A causal language model keeps the one that predicts
    tokens where `language_model` asks for it, or where a pass kept it.

    Args:
        name: what to load; see `compress.sources.resolve_model` for the order of look-up.
        task: give the model a head for this task where it has none, or one that gives way (`Task.gives_way`),
            initialised at random under torch's current seed; `max_length` is lowered to the model's positions.
            Without it a model without a head is loaded bare.
        language_model: keep the head of a causal language model.

    Returns:
        The artifact, its model in eval mode on the CPU with its stored dtype.

    Raises:
        InputError: the name cannot be resolved, the model answers another task, or its family has no head for it.
        FolderError: files are missing, damaged, or do not fit the config.
    """
    import transformers
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    folder = resolve_model(str(name)).path
    recorded = verify(folder)
    config = read_config(folder)
    trained = recorded.task is not None and (task is None or not recorded.task.gives_way(task.kind))
    if not trained and task is not None:
        length = min(task.max_length, positions_of(config) or task.max_length)
        task = task.model_copy(update={"max_length": length})
        require_head(config, task, str(name))
        config.update(task.head_config())
        recorded = recorded.model_copy(update={"task": task, "source": recorded.source or str(name)})
    elif recorded.task is not None:
        _check_head(config, recorded.task, folder)
    causal = (
        recorded.task is None and has_language_head(config) and (language_model or bool(recorded.history))
    )
    headless: Any = AutoModelForCausalLM if causal else AutoModel
    kind = headless if recorded.task is None else getattr(transformers, recorded.task.rules.auto_class)
    try:
        model, info = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except CompressError:
        raise
    except Exception as error:  # safetensors and transformers raise many kinds; all mean an unusable folder
        raise FolderError(
            f"transformers cannot load it ({str(error).strip().splitlines()[0]})",
            place=str(folder),
            remedy="Make or copy the folder again; weights must be safetensors.",
        ) from error
    _check_complete(model, info, folder, trained or causal)
    if getattr(model, "hf_quantizer", None) is not None:
        # From here on it is an ordinary model: structure is read off its modules, not off the hook.
        model.hf_quantizer.remove_quantization_config(model)
    _agree_on_padding(model.config, tokenizer)
    attachments = {path: folder / path for path in recorded.files if path.startswith(("onnx/", "bundle/"))}
    return Artifact(model.eval(), tokenizer, recorded.model_copy(update={"files": {}}), attachments)


def require_head(config: PretrainedConfig, task: Task, place: str) -> None:
    """Refuse a family that transformers builds no head for the task for, as GPT-2 with masked words."""
    import transformers

    if type(config) not in getattr(transformers, task.rules.auto_class)._model_mapping:
        raise InputError(
            f"{config.model_type} models have no head for the task {task.kind}",
            place=place,
            remedy="Give a model of another family, BERT's for example, or another `task`.",
        )


def has_language_head(config: PretrainedConfig) -> bool:
    """Say whether a folder's weights are a causal language model's, by the class that its config names."""
    named = getattr(config, "architectures", None) or []
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in named)


def save(artifact: Artifact, folder: str | Path, extra: dict[str, str] | None = None) -> Manifest:
    """Write an artifact atomically: the folder is the old one or the new one, never half.

    A model whose structure is its config's own becomes an ordinary Hugging Face folder; any other gets
    `compressed.safetensors` and its structure in `config.json`.

    Args:
        artifact: what to write.
        folder: where; missing, empty, or a folder that `save` wrote before.
        extra: further text files by name, `recipe.yaml` for example.

    Raises:
        FolderError: `folder` holds something else or cannot be written.
    """
    from compress.structure import describe

    structure = describe(artifact.model)
    with folders.replacing(Path(folder)) as new:
        artifact.model.save_pretrained(new, max_shard_size="1TB")
        artifact.tokenizer.save_pretrained(new)
        path = new / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        if artifact.model.base_model is not artifact.model:
            # transformers leaves out its general default of two labels; BART then reads its own, three.
            config.setdefault("id2label", artifact.model.config.id2label)
            config.setdefault("label2id", artifact.model.config.label2id)
        if structure:
            (new / "model.safetensors").rename(new / WEIGHTS)
            config["quantization_config"] = {"quant_method": METHOD, "version": 1, "structure": structure}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name, source in artifact.attachments.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, new / name)
        for name, text in (extra or {}).items():
            (new / name).write_text(text, encoding="utf-8")
        written = artifact.manifest.model_copy(update={"files": manifest.hash_folder(new)})
        (new / manifest.NAME).write_text(written.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return written


def _agree_on_padding(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Pad with the end of the text where no token was ever set aside for it, as in GPT-2 and Llama.

    Their heads read the last token that is no pad, so the config has to know it too.
    """
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id


def _check_head(config: PretrainedConfig, task: Task, folder: Path) -> None:
    """Refuse a head that answers another number of classes than the task has, or several numbers for one."""
    expected = 1 if task.kind == "regression" else len(task.labels)
    if expected and config.num_labels != expected:
        wanted = (
            f"{len(task.labels)} labels ({', '.join(task.labels)})" if task.labels else "one number to answer"
        )
        raise FolderError(
            f"its head answers {config.num_labels} numbers, its task has {wanted}",
            place=str(folder),
            remedy="The head is another task's; train the model again or give another one.",
        )


def _check_complete(model: PreTrainedModel, info: dict[str, Any], folder: Path, trained: bool) -> None:
    """Refuse weights that do not fill the model: transformers itself only warns.

    Where no head is trained yet, the head and a pooler (which belongs to a head) may be missing.
    """
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    missing = set(info["missing_keys"])
    if not trained:
        missing = {
            key for key in missing if key.startswith(prefix) and not key.startswith(f"{prefix}pooler.")
        }
    names = sorted(missing) + [str(key) for key in info["mismatched_keys"]]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise FolderError(
            f"weights are missing or of another shape for {', '.join(names[:3])}{more}",
            place=str(folder),
            remedy="The folder's weights and config do not belong together; make or copy it again.",
        )


def _task_from_config(config: PretrainedConfig) -> Task | None:
    architectures = getattr(config, "architectures", None) or []
    head = next((head for head in _HEADS if any(name.endswith(head) for name in architectures)), None)
    if head is None:
        return None
    if head == "ForQuestionAnswering":
        return Task(kind="questions", pair=True)
    by_id = {int(index): label for index, label in (config.id2label or {}).items()}
    labels = tuple(by_id[index] for index in sorted(by_id))
    if head == "ForTokenClassification":
        return Task(kind="tokens", labels=labels, pair=False)
    if config.problem_type == "multi_label_classification":
        return Task(kind="multilabel", labels=labels)
    if config.num_labels == 1 or config.problem_type == "regression":
        return Task(kind="regression")
    return Task(kind="classification", labels=labels)
