"""`transformers.Trainer` with our objective: resume, bf16, gradient handling and DDP come with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from compress.display import progress
from compress.errors import InputError
from compress.hardware import fast_bf16
from compress.processes import count
from compress.tasks import Task
from compress.tasks.evaluate import score
from compress.tasks.kind import Encoded
from compress.training.adapters import adapted
from compress.training.adversarial import perturbed_embeddings
from compress.training.config import TrainingPass
from compress.training.examples import Collator, Examples
from compress.training.objective import EXAMPLES, SHARES, TOKENS, Objective, share_of
from compress.training.parameters import frozen, parameter_groups, unread_frozen
from compress.training.r_drop import symmetric_divergence
from compress.training.sampling import LengthBuckets, StepParts
from compress.training.tracking import run_of_its_own, tensorboard

if TYPE_CHECKING:
    from compress.artifact import Artifact
    from compress.passes.base import Context

LiveTeacher = Callable[[Any], dict[str, Tensor]]  # of a batch of `teacher_inputs`
_ATTACHED = "training_objective"


class ObjectiveTrainer(Trainer):
    """A Trainer whose loss is an `Objective`.

    Args:
        task: says what the answer is, and scores the dev split.
        objective: what is minimised, computed in float32.
        options: of the pass.
        dev: the split that each epoch is scored on.
        teacher: turns a batch of `teacher_inputs` into a dict of targets, for teachers that answer while training
            goes on.
        model_options: what the model is called with besides its inputs while it trains.
        **arguments: as for `transformers.Trainer`.
    """

    def __init__(
        self,
        task: Task,
        objective: Objective,
        options: TrainingPass,
        dev: Encoded,
        teacher: LiveTeacher | None = None,
        model_options: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        self.task, self.options, self.dev, self.teacher = task, options, dev, teacher
        self.objective: Objective = objective
        self.model_options = dict(model_options or {})
        super().__init__(**arguments)
        self.objective.to(self.args.device)
        self.model_accepts_loss_kwargs = False  # our loss is a mean over the batch, not over labels

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Read a step's parts; where it has several, here or in other processes, say what share each one is."""
        parts, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        together = len(parts) * count()
        if together > 1:
            counts = [self._counts(part) for part in parts]
            # In float32, which every way for processes to talk can add up.
            here = torch.tensor([list(each.values()) for each in counts], dtype=torch.float32, device=device)
            average = self.accelerator.reduce(here.sum(0), "sum") / together
            shares = here / average.where(average > 0, torch.ones_like(average))
            for part, row in zip(parts, shares.tolist(), strict=True):
                part["targets"] = {**part["targets"], SHARES: dict(zip(counts[0], row, strict=True))}
        return parts, items

    def _counts(self, part: Mapping[str, Any]) -> dict[str, int]:
        counts = self.objective.counts(part["labels"], part["targets"])
        return counts | {TOKENS: int(part["attention_mask"].sum())}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss, with the model's outputs where asked."""
        inputs = dict(inputs)
        labels, targets = inputs.pop("labels"), inputs.pop("targets")
        done = self.state.global_step / max(self.state.max_steps, 1)

        def once() -> tuple[Tensor, Tensor, Any]:
            outputs = model(**inputs, **self.model_options)
            answer = self.task.answer(outputs, inputs).float()
            return self.objective(answer, labels, targets, done), answer, outputs

        loss, answer, outputs = once()
        if self.options.r_drop:
            again, other, _ = once()
            mask = inputs["attention_mask"].bool() if self.task.per_token else None
            labels_apart = self.task.rules.compared == "labels"
            difference = symmetric_divergence(answer, other, mask, labels_apart)
            share = share_of(targets, EXAMPLES if mask is None else TOKENS)
            loss = (loss + again) / 2 + self.options.r_drop * share * difference
        return (loss, outputs) if return_outputs else loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run a step forwards and backwards; where asked, once more on embeddings moved against the model."""
        inputs = self._prepare_inputs(inputs)
        if self.teacher is not None:
            targets = dict(inputs["targets"])
            inputs = {**inputs, "targets": targets | self.teacher(targets.pop("teacher_inputs"))}
        loss: Tensor = super().training_step(model, dict(inputs), num_items_in_batch)
        if self.options.adversarial:
            assert isinstance(self.model, PreTrainedModel)
            with perturbed_embeddings(self.model, self.options.adversarial):
                super().training_step(model, dict(inputs), num_items_in_batch)
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the dev split; unlike the Trainer's own loop it keeps no padded answers and no copy of labels."""
        tokenizer, size = self.processing_class, self.args.per_device_eval_batch_size
        assert isinstance(tokenizer, PreTrainedTokenizerBase)
        assert isinstance(self.model, PreTrainedModel)
        found = score(self.model, self.dev, tokenizer, self.task, size, self.args.bf16)
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return the Trainer's own optimizer, its groups by layer where lower ones learn more slowly."""
        if self.options.layer_decay == 1:
            created: torch.optim.Optimizer = super().create_optimizer()
            return created
        assert isinstance(self.model, PreTrainedModel)
        decays = set(self.get_decay_parameter_names(self.model))
        groups = parameter_groups(
            self.model, decays, self.args.learning_rate, self.args.weight_decay, self.options.layer_decay
        )
        kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = kind(groups, **arguments)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return what this process reads of the training split: its parts of each step's batch."""
        examples = self.train_dataset
        assert isinstance(examples, Examples)
        parts = self.args.world_size * self.args.gradient_accumulation_steps
        size = self.args.train_batch_size * parts
        order = LengthBuckets(examples.lengths, size, self.args.seed, examples.turns)
        loader: DataLoader[Any] = DataLoader(
            examples,
            batch_sampler=StepParts(order, parts),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared


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
        if options.r_drop and not any(getattr(*place) for place in _dropouts(model)):
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
    places, attention = _dropouts(model), model.config._attn_implementation
    own = [getattr(*place) for place in places]
    for module, name in places if rate is not None else ():
        setattr(module, name, rate)
    if device == "cpu":
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        for (module, name), before in zip(places, own, strict=True):
            setattr(module, name, before)


def _dropouts(model: PreTrainedModel) -> list[tuple[nn.Module, str]]:
    """Return where a model keeps rates of dropout: its layers, and numbers that functions are called with."""
    return [
        (module, name)
        for module in model.modules()
        for name, value in vars(module).items()
        if type(value) in (int, float)
        and (name == "p" if isinstance(module, nn.Dropout) else name.endswith("dropout"))
    ]


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
