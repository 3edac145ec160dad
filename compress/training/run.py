"""From a model, examples and an objective to the trained model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)

from compress.display import progress
from compress.errors import InputError
from compress.hardware import fast_bf16
from compress.processes import count
from compress.training.adapters import adapted
from compress.training.dropout import dropout_set, drops_anything
from compress.training.examples import Collator, Examples
from compress.training.parameters import frozen, unread_frozen
from compress.training.tracking import run_of_its_own, tensorboard
from compress.training.trainer import LiveTeacher, ObjectiveTrainer

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.passes.base import Context
    from compress.tasks import Task
    from compress.tasks.kind import Encoded
    from compress.training.config import TrainingPass
    from compress.training.objective import Objective

_ATTACHED = "training_objective"


class _ProgressBar(TrainerCallback):
    """Our bar instead of the Trainer's, with the time left."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar = progress(self.title, state.max_steps)
        self._advance = self._bar.__enter__()
        self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance(1)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.__exit__(None, None, None)


def train(
    artifact: Artifact,
    examples: Examples,
    dev: Encoded,
    objective: Objective,
    options: TrainingPass,
    context: Context,
    teacher: LiveTeacher | None = None,
    title: str = "train",
) -> None:
    """Train an artifact's model in place and leave it with the weights of its best epoch on the dev metric.

    Each epoch is a checkpoint in `context.workdir`; a run that was killed goes on from the last whole one.

    Args:
        artifact: the model with its tokenizer; its task gives the metric that decides.
        examples: what is learned from.
        dev: what each epoch is scored on.
        objective: the loss; its parameters are trained too.
        options: epochs, learning rate and so on.
        context: seed, device and working folder.
        teacher: as in `ObjectiveTrainer`.
        title: what the progress bar says.

    Raises:
        InputError: there is nothing to score on, or an option does not fit the model.
    """
    model, tokenizer, task = artifact.model, artifact.tokenizer, artifact.task
    collate = Collator(tokenizer, task.labels_per_token, examples.targets)
    callbacks: list[TrainerCallback] = [_ProgressBar(title)]
    if options.patience is not None:
        callbacks.append(EarlyStoppingCallback(options.patience))
    if "tensorboard" in options.track and context.logs is not None:
        callbacks.append(tensorboard(context.logs))
        context.notes.append(f"to look at the losses: tensorboard --logdir {context.logs}")
    with ExitStack() as stack:
        stack.enter_context(run_of_its_own(options.track))
        stack.enter_context(_made_for_training(model, options.dropout, context.device))
        if options.r_drop and not drops_anything(model):
            raise InputError(
                "r_drop compares two passes with other dropout, and the model has none",
                place="r_drop",
                remedy="Give it some, `dropout: 0.1`, or leave r_drop out.",
            )
        stack.enter_context(adapted(model, options.adapter))
        stack.enter_context(frozen(model, options.freeze))
        if count() > 1:
            stack.enter_context(unread_frozen(model, _answer(model, task, collate([examples[0]]))))
        stack.enter_context(_along_with(model, objective))
        model_options = stack.enter_context(objective.watching(model))
        trainer = ObjectiveTrainer(
            task,
            objective,
            options,
            dev,
            teacher,
            model_options,
            model=model,
            args=_arguments(options, context, task),
            train_dataset=examples,
            eval_dataset=examples,  # the Trainer wants one; `evaluate` reads `dev`
            processing_class=tokenizer,
            data_collator=collate,
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(context.workdir))
        # accelerate leaves the model with a forward that runs in bfloat16 and the mark of having one; the trained model
        # answers in float32, and is prepared anew where it is trained again.
        for wrapper in ("forward", "_original_forward", "_is_accelerate_prepared"):
            model.__dict__.pop(wrapper, None)
    model.eval()


def _answer(model: PreTrainedModel, task: Task, batch: dict[str, Any]) -> Tensor:
    """Return the answer to a batch, with its graph; nothing random happens."""
    inputs = {
        name: value.to(model.device) for name, value in batch.items() if name not in ("labels", "targets")
    }
    return task.answer(model.eval()(**inputs), inputs)


def _arguments(options: TrainingPass, context: Context, task: Task) -> TrainingArguments:
    shares = count() * options.accumulate
    if options.batch_size % shares:
        raise InputError(
            f"a batch of {options.batch_size} cannot be shared by {count()} processes in {options.accumulate} parts",
            place="batch_size",
            remedy="Give a multiple of both.",
        )
    rows = options.batch_size // shares
    arguments = TrainingArguments(
        output_dir=str(context.workdir),
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=rows,
        per_device_eval_batch_size=2 * rows,
        gradient_accumulation_steps=options.accumulate,
        max_grad_norm=options.clip,
        warmup_steps=options.warmup,
        lr_scheduler_type=options.schedule,
        weight_decay=options.weight_decay,
        optim={"adamw": "adamw_torch_fused", "adafactor": "adafactor"}[options.optimizer],
        bf16=fast_bf16(context.device) if options.bf16 is None else options.bf16,
        use_cpu=context.device == "cpu",
        ddp_backend="gloo" if context.device == "cpu" and count() > 1 else None,
        ddp_find_unused_parameters=False,  # an objective's own are used outside the model's forward pass
        seed=context.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=task.main_metric,
        greater_is_better=True,
        logging_strategy="steps" if options.track else "no",
        logging_steps=10,
        report_to=[name for name in options.track if name != "tensorboard"] or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=context.device != "cpu",
        label_names=["labels"],
    )
    # A process trains on one GPU. On all that there are the Trainer would put a copy of the model, give each a batch of
    # this size, and what is read inside the model would be the copies'.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


@contextmanager
def _along_with(model: PreTrainedModel, objective: Objective) -> Iterator[None]:
    """Make the objective's own parameters the model's for a while: optimizer, checkpoints and DDP then see them."""
    if not any(True for _ in objective.parameters()):
        yield
        return
    model.add_module(_ATTACHED, objective)
    try:
        yield
    finally:
        del model._modules[_ATTACHED]


@contextmanager
def _made_for_training(model: PreTrainedModel, rate: float | None, device: str) -> Iterator[None]:
    """Set every dropout to `rate` (None leaves them as they are) and choose the faster attention for a while.

    On a CPU that is the plain one: with torch's fused attention a backward pass of minilm-l6 over sentences took
    0.44 s, with the plain one 0.16 s.
    """
    attention = model.config._attn_implementation
    if device == "cpu":
        model.set_attn_implementation("eager")
    try:
        with dropout_set(model, rate):
            yield
    finally:
        model.set_attn_implementation(attention)


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written to the end, None where there is none."""
    # trainer_state.json is what the Trainer writes last; where a kill came before, it is missing or cut short.
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
