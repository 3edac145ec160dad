"""`transformers.Trainer` with our objective: resume, bf16, gradient handling and DDP come with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from compress.display import progress
from compress.hardware import fast_bf16
from compress.tasks import Task
from compress.tasks.evaluate import score
from compress.tasks.kind import Encoded
from compress.training.config import TrainingPass
from compress.training.examples import Collator, Examples

if TYPE_CHECKING:
    from compress.passes.base import Context

# (answers (B, L) or (B, T, L), labels, teacher's answers or None) -> scalar
Objective = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class TaskObjective(nn.Module):
    """The task's own loss of the labels; see `Task.loss`."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.regression = task.kind == "regression"

    def forward(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
        """Return the scalar loss of answers (B, L), or (B, T, L) for tokens, against labels."""
        return self.task.loss(logits, labels)


class ObjectiveTrainer(Trainer):
    """A Trainer whose loss is an objective over logits, labels and a teacher's logits.

    Args:
        task: says what the answer is, and scores the dev split.
        objective: computes the loss in float32.
        teacher: answers `teacher_inputs` during training, in eval mode and without gradients; None where
            the examples carry cached `teacher_logits` or there is no teacher.
        teacher_order: position of each of the student's labels in the teacher's logits.
        **arguments: as for `transformers.Trainer`.
    """

    def __init__(
        self,
        task: Task,
        objective: Objective,
        teacher: PreTrainedModel | None = None,
        teacher_order: list[int] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.objective: Objective = objective
        self.teacher, self.teacher_order = teacher, teacher_order
        self.task = task
        self.model_accepts_loss_kwargs = False  # our loss is a mean over the batch, not over labels
        if teacher is not None:
            teacher.eval().to(self.args.device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss, with the model's outputs where asked."""
        inputs = dict(inputs)
        labels, logits = inputs.pop("labels"), inputs.pop("teacher_logits", None)
        teacher_inputs = inputs.pop("teacher_inputs", None)
        if teacher_inputs is not None and self.teacher is not None:
            with torch.inference_mode():
                logits = self.teacher(**teacher_inputs).logits.float()[:, self.teacher_order]
            logits = logits.clone()
        outputs = model(**inputs)
        loss = self.objective(self.task.answer(outputs, inputs).float(), labels, logits)
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the dev split; unlike the Trainer's own loop it keeps no padded answers and no copy of labels."""
        dev, tokenizer = self.eval_dataset, self.processing_class
        assert isinstance(dev, Examples)
        assert isinstance(tokenizer, PreTrainedTokenizerBase)
        encoded = Encoded(list(dev.encoded), dev.labels, dev.targets, dev.parts)
        assert isinstance(self.model, PreTrainedModel)
        found = score(
            self.model, encoded, tokenizer, self.task, self.args.per_device_eval_batch_size, self.args.bf16
        )
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    train_examples: Examples,
    dev_examples: Examples,
    options: TrainingPass,
    context: Context,
    objective: Objective,
    teacher: tuple[PreTrainedModel, PreTrainedTokenizerBase, list[int]] | None = None,
    title: str = "train",
) -> None:
    """Train `model` in place and leave it with the weights of its best epoch on the dev metric.

    Each epoch is a checkpoint in `context.workdir`; a run that was killed goes on from the last whole one.

    Args:
        model: the student.
        tokenizer: the student's.
        task: gives the metric that decides.
        train_examples: what is learned from.
        dev_examples: what each epoch is scored on.
        options: epochs, learning rate and so on.
        context: seed, device and working folder.
        objective: the loss.
        teacher: model, tokenizer and label order of a teacher that answers during training.
        title: what the progress bar says.
    """
    bf16 = fast_bf16(context.device) if options.bf16 is None else options.bf16
    arguments = TrainingArguments(
        output_dir=str(context.workdir),
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=2 * options.batch_size,
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        bf16=bf16,
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
    callbacks: list[TrainerCallback] = [_ProgressBar(title)]
    if options.patience is not None:
        callbacks.append(EarlyStoppingCallback(options.patience))
    trainer = ObjectiveTrainer(
        task,
        objective,
        teacher[0] if teacher else None,
        teacher[2] if teacher else None,
        model=model,
        args=arguments,
        train_dataset=train_examples,
        eval_dataset=dev_examples,
        processing_class=tokenizer,
        data_collator=Collator(tokenizer, teacher[1] if teacher else None, task.labels_per_token),
        callbacks=callbacks,
    )
    trainer.remove_callback(_printer())
    with _made_for_training(model, options.dropout, context.device):
        trainer.train(resume_from_checkpoint=last_checkpoint(context.workdir))
    # accelerate leaves the model with a forward that runs in bfloat16; the trained model answers in float32.
    for wrapper in ("forward", "_original_forward"):
        model.__dict__.pop(wrapper, None)
    model.eval()


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


def _printer() -> type[TrainerCallback]:
    from transformers import PrinterCallback

    return PrinterCallback
