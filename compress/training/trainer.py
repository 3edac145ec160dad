"""`transformers.Trainer` with our objective: resume, bf16, gradient handling and DDP come with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from compress.processes import count
from compress.tasks import Task
from compress.tasks.evaluate import score
from compress.tasks.kind import Encoded
from compress.training.adversarial import perturbed_embeddings
from compress.training.config import TrainingPass
from compress.training.examples import Examples
from compress.training.objective import EXAMPLES, SHARES, TOKENS, Objective, share_of
from compress.training.parameters import parameter_groups
from compress.training.r_drop import symmetric_divergence
from compress.training.sampling import LengthBuckets, StepParts

LiveTeacher = Callable[[Any], dict[str, Tensor]]  # of a batch of `teacher_inputs`


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
