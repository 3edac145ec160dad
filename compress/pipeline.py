"""Plan, check everything, run, save each step; a finished step is not run again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from compress import folders
from compress.artifact import Artifact, content_hash, load, read_config, read_manifest, save, verify
from compress.data import TextData, load_data
from compress.data.config import DataConfig
from compress.display import say
from compress.errors import BudgetError, CompressError, FolderError, InputError
from compress.manifest import PassRecord, hash_file, hash_json, versions
from compress.passes.base import Context, ModelPlan, Pass
from compress.processes import is_first, take_device, wait
from compress.reload import is_quantized
from compress.sources import resolve_model


@dataclass(frozen=True)
class Step:
    """One pass and the folder that its result goes to."""

    pass_: Pass
    folder: Path


@dataclass(frozen=True)
class Chain:
    """A checked chain, ready to run.

    Attributes:
        source: folder of the model that goes in.
        model: the name it was given by.
        steps: what is done.
        data: loaded and in the model's label order; None where there is none.
        config: where `data` came from.
        seed: of everything random.
        device: `cpu` or `cuda`.
        recipe: text saved with every step.
    """

    source: Path
    model: str
    steps: tuple[Step, ...]
    data: TextData | None
    config: DataConfig | None
    seed: int
    device: str
    recipe: str


def plan(
    model: str,
    steps: Sequence[Step],
    data: DataConfig | None,
    seed: int = 0,
    device: str = "cpu",
    recipe: str = "",
) -> Chain:
    """Check a whole chain before any weights are loaded or any training starts.

    Data that is left out is what the model itself was trained on, where its manifest says so.

    Raises:
        InputError: everything that is wrong with the model, the data and each pass, in one message.
    """
    errors: list[str] = []
    source, task, config, loaded = Path(), None, None, None
    try:
        source = resolve_model(model).path
        manifest, config = verify(source), read_config(source)
        task, data = manifest.task, data or manifest.data
        data = data.posing(task) if data else None
    except CompressError as error:
        errors.append(str(error))
    try:
        loaded = load_data(data) if data else None
        if loaded and task and not task.gives_way(loaded.kind):
            loaded = loaded.aligned(task, f"data {loaded.name}")
    except CompressError as error:
        errors.append(str(error))
    if not errors:
        errors = _check(steps, ModelPlan(config, task, loaded))
    if device == "cuda" and not _has_cuda():
        errors.append("--device cuda: torch sees no GPU. Use --device cpu.")
    for step in steps:
        try:
            folders.check_output(step.folder)
            if source != Path() and step.folder.resolve() == source.resolve():
                raise FolderError(
                    "it is the model that goes in", place=str(step.folder), remedy="Give another --out."
                )
        except FolderError as error:
            errors.append(str(error))
    if len(errors) == 1:
        raise InputError(errors[0])
    if errors:
        raise InputError("\n  ".join([f"{len(errors)} problems", *errors]))
    return Chain(source, model, tuple(steps), loaded, data, seed, device, recipe)


def run(chain: Chain, scratch: Path) -> list[Path]:
    """Run a chain's steps in order and return their folders.

    A step whose folder already holds the result of the same inputs, options, seed and versions is skipped; one
    that was killed goes on from its last checkpoint.

    Args:
        chain: what `plan` returned.
        scratch: working folder for checkpoints; removed at the end, kept where a run that was cut off can go
            on from it.

    Raises:
        CompressError: a step failed; the steps before it are saved.
    """
    take_device(chain.device)
    done: list[Path] = []
    artifact: Artifact | None = None
    for note in chain.data.notes if chain.data else ():
        say(f"data: {note}")
    with _working_folder(scratch) if is_first() else nullcontext():
        for number, step in enumerate(chain.steps, 1):
            title = f"{number}/{len(chain.steps)} {step.pass_.name}"
            key = _step_key(chain, step, done)
            if _finished(step.folder, key):
                say(f"{title}: done before, in {step.folder}")
                artifact = None
            else:
                say(f"{title} → {step.folder}")
                before = done[-1] if done else chain.source
                artifact = _run_step(chain, step, artifact or load(before), before, key, done, scratch)
            done.append(step.folder)
    return done


def require_budgets(done: Sequence[Path]) -> None:
    """Check what the steps in `done` said of their budgets, in this run or before.

    Raises:
        BudgetError: a step could not meet its own; its best result is in its folder.
    """
    unmet = [f"{folder}: {line}" for folder in done for line in read_manifest(folder).history[-1].unmet]
    if unmet:
        raise BudgetError("; ".join(unmet), remedy="The best model found is saved there.")


def _check(steps: Sequence[Step], state: ModelPlan) -> list[str]:
    state.quantized = state.config is not None and is_quantized(state.config)
    for index, step in enumerate(steps):
        state.place = f"passes[{index}] ({step.pass_.name})"
        step.pass_.check(state)
        state.results.append((state.config, state.task))
    return state.errors


def _run_step(
    chain: Chain, step: Step, artifact: Artifact, before: Path, key: str, done: list[Path], scratch: Path
) -> Artifact:
    from transformers import set_seed

    set_seed(chain.seed)
    workdir = scratch / f"{step.folder.name}-{key[:12]}"
    workdir.mkdir(parents=True, exist_ok=True)
    context = Context(
        seed=chain.seed,
        workdir=workdir,
        data=chain.data,
        device=chain.device,
        input_folder=before,
        steps=tuple(done),
        logs=step.folder.parent / "logs" / step.folder.name,
    )
    task = artifact.manifest.task
    if task is not None and task.pair is None and chain.data is not None:
        artifact = artifact.evolve(task=task.model_copy(update={"pair": chain.data.pair}))
    history = artifact.manifest.history
    known = history[-1].after if history and artifact.manifest.data == chain.config else {}
    metrics = known or _score(chain, artifact, "score before")
    start = time.monotonic()
    artifact = artifact.evolve(attachments={})  # an ONNX file of the model as it was
    artifact = step.pass_.apply(artifact, context)
    artifact.model.to(chain.device).eval()  # type: ignore[arg-type]
    seconds = time.monotonic() - start
    after = _score(chain, artifact, "score on dev") if step.pass_.changes_answers else metrics
    artifact.model.to("cpu")  # type: ignore[arg-type]
    record = PassRecord(
        name=step.pass_.name,
        config=step.pass_.model_dump(mode="json", by_alias=True),
        input_hash=key,
        seed=chain.seed,
        versions=versions(),
        seconds=round(seconds, 2),
        before=metrics,
        after=after,
        notes=tuple(context.notes),
        unmet=tuple(context.unmet),
    )
    artifact = artifact.with_record(record).evolve(
        data=chain.config, source=artifact.manifest.source or chain.model
    )
    if is_first():
        save(artifact, step.folder, {"recipe.yaml": chain.recipe} if chain.recipe else None)
        shutil.rmtree(workdir, ignore_errors=True)
    wait(chain.device)
    for line in [*context.notes, _score_line(record, artifact)]:
        say(f"  {line}")
    return artifact.evolve(attachments={name: step.folder / name for name in artifact.attachments})


def _score(chain: Chain, artifact: Artifact, title: str) -> dict[str, float]:
    """Score on the validation split; empty without data or without a head."""
    from compress.tasks.evaluate import evaluate

    task = artifact.manifest.task
    if chain.data is None or task is None or task.gives_way(chain.data.kind):
        return {}
    return evaluate(artifact, chain.data.aligned(artifact.task).validation, title)


def _score_line(record: PassRecord, artifact: Artifact) -> str:
    if not record.after:
        return f"{record.seconds:.0f} s"
    name = artifact.task.main_metric
    before = f"{record.before[name]:.4g} → " if name in record.before else ""
    return f"dev {name} {before}{record.after[name]:.4g}, {record.seconds:.0f} s"


def _step_key(chain: Chain, step: Step, done: list[Path]) -> str:
    """Hash everything that decides a step's result."""
    inputs = [content_hash(chain.source), *(content_hash(folder) for folder in done)]
    inputs += [content_hash(resolve_model(name).path) for name in step.pass_.model_names()]
    inputs += [hash_file(path) for path in step.pass_.input_files()]
    data = chain.data.fingerprint if chain.data else None
    options = step.pass_.model_dump(mode="json", by_alias=True)
    return hash_json([inputs, options, data, chain.seed, chain.device, versions()])


def _finished(folder: Path, key: str) -> bool:
    if not (folder / "manifest.json").exists():
        return False
    try:
        history = read_manifest(folder).history
        if not history or history[-1].input_hash != key:
            return False
        verify(folder)
    except FolderError as error:
        say(f"{error} Making it again.")
        return False
    return True


@contextmanager
def _working_folder(scratch: Path) -> Iterator[None]:
    """Lock `scratch` for this run; remove it at the end unless it has a checkpoint to go on from."""
    from filelock import FileLock, Timeout

    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(
            f"cannot be written ({error.strerror})", place=str(scratch.parent), remedy="Give another --out."
        ) from error
    lock = FileLock(scratch / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FolderError(
            "another run is writing here", place=str(scratch), remedy="Wait for it, or give another --out."
        ) from None
    finished = False
    try:
        yield
        finished = True
    finally:
        if finished or not any(scratch.glob("*/checkpoint-*")):
            shutil.rmtree(scratch, ignore_errors=True)
        lock.release()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
