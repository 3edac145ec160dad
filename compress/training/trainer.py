"""`transformers.Trainer` with our objective: resume, bf16, gradient handling and DDP come with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from compress.display import progress
from compress.hardware import fast_bf16
from compress.tasks import Task
from compress.training.config import TrainingPass
from compress.training.examples import Collator, Examples
from compress.training.objective import Objective, TaskObjective

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.passes.base import Context

LiveTeacher = Callable[[Any], dict[str, Tensor]]  # of a batch of `teacher_inputs`


class ObjectiveTrainer(Trainer):
    """A Trainer whose loss is an `Objective`.

    Args:
        objective: what is minimised, computed in float32.
        dev_objective: what is reported of the dev split.
        lengths: tokens of each training example.
        teacher: turns a batch of `teacher_inputs` into a dict of targets, for teachers that answer while training
            goes on.
        model_options: what the model is called with besides its inputs while it trains.
        **arguments: as for `transformers.Trainer`.
    """

    def __init__(
        self,
        objective: Objective,
        dev_objective: Objective,
        lengths: list[int],
        teacher: LiveTeacher | None = None,
        model_options: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.objective: Objective = objective
        self.dev_objective, self.teacher = dev_objective, teacher
        self.lengths, self.model_options = lengths, model_options or {}
        self.model_accepts_loss_kwargs = False  # our loss is a mean over the batch, not over labels

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss, with the model's outputs where asked."""
        inputs = dict(inputs)
        labels, targets = inputs.pop("labels"), dict(inputs.pop("targets", {}))
        if not model.training:
            outputs = model(**inputs)
            loss = self.dev_objective(outputs.logits.float(), labels, {}, 1.0)
            return (loss, outputs) if return_outputs else loss
        if self.teacher is not None:
            targets |= self.teacher(targets.pop("teacher_inputs"))
        outputs = model(**inputs, **self.model_options)
        progress = self.state.global_step / max(self.state.max_steps, 1)
        loss = self.objective(outputs.logits.float(), labels, targets, progress)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        """Batch examples of like length, without reading every one of them for it."""
        return LengthGroupedSampler(
            self.args.train_batch_size * self.args.gradient_accumulation_steps, lengths=self.lengths
        )


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
    train_examples: Examples,
    dev_examples: Examples,
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
        train_examples: what is learned from.
        dev_examples: what each epoch is scored on.
        objective: the loss; its parameters are trained too.
        options: epochs, learning rate and so on.
        context: seed, device and working folder.
        teacher: as in `ObjectiveTrainer`.
        title: what the progress bar says.
    """
    model, tokenizer, task = artifact.model, artifact.tokenizer, artifact.task
    callbacks: list[TrainerCallback] = [_ProgressBar(title)]
    if options.patience is not None:
        callbacks.append(EarlyStoppingCallback(options.patience))
    with (
        _made_for_training(model, options.dropout, context.device),
        _along_with(model, objective),
        objective.watching(model) as model_options,
    ):
        trainer = ObjectiveTrainer(
            objective,
            TaskObjective(task),
            train_examples.lengths,
            teacher,
            model_options,
            model=model,
            args=_arguments(options, context, task),
            train_dataset=train_examples,
            eval_dataset=dev_examples,
            processing_class=tokenizer,
            data_collator=Collator(tokenizer, train_examples.targets),
            compute_metrics=lambda result: task.metrics(_logits(result.predictions), result.label_ids),
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(context.workdir))
    # accelerate leaves the model with a forward that runs in bfloat16; the trained model answers in float32.
    for wrapper in ("forward", "_original_forward"):
        model.__dict__.pop(wrapper, None)
    model.eval()


def _arguments(options: TrainingPass, context: Context, task: Task) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(context.workdir),
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=2 * options.batch_size,
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        optim="adamw_torch_fused",
        bf16=fast_bf16(context.device) if options.bf16 is None else options.bf16,
        use_cpu=context.device == "cpu",
        seed=context.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=task.main_metric,
        greater_is_better=True,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=context.device != "cpu",
        label_names=["labels"],
    )


@contextmanager
def _along_with(model: PreTrainedModel, objective: Objective) -> Iterator[None]:
    """Make the objective's own parameters the model's for a while: optimizer, checkpoints and DDP then see them."""
    if not any(True for _ in objective.parameters()):
        objective.to(model.device)
        yield
        return
    model.add_module("training_objective", objective)
    try:
        yield
    finally:
        del model.training_objective


@contextmanager
def _made_for_training(model: PreTrainedModel, rate: float | None, device: str) -> Iterator[None]:
    """Set every dropout to `rate` (None leaves them as they are) and choose the faster attention for a while.

    On a CPU that is the plain one: with torch's fused attention a backward pass of minilm-l6 over sentences took
    0.44 s, with the plain one 0.16 s.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    own, attention = [layer.p for layer in layers], model.config._attn_implementation
    for layer in layers:
        layer.p = layer.p if rate is None else rate
    if device == "cpu":
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        for layer, before in zip(layers, own, strict=True):
            layer.p = before


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


def _logits(predictions: Any) -> Any:
    return predictions[0] if isinstance(predictions, tuple) else predictions
