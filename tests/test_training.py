"""How a model is trained: adapters, frozen parts, slower layers, adversarial steps, the order of examples."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_data import tiny_data
from tiny_models import logits, tiny_artifact, tiny_model
from torch import nn
from transformers import TrainingArguments

from compress.errors import InputError
from compress.passes.base import Context, ModelPlan
from compress.passes.distill import Distill
from compress.passes.finetune import Finetune
from compress.processes import take_device
from compress.tasks import Task
from compress.training.adapters import MERGING, Adapter, adapted, peft_config
from compress.training.adversarial import perturbed_embeddings
from compress.training.objective import label_objective
from compress.training.parameters import depth_of_parameters, frozen, parameter_groups
from compress.training.r_drop import symmetric_divergence
from compress.training.run import _arguments, _made_for_training
from compress.training.sampling import LengthBuckets, StepParts
from compress.training.tracking import run_of_its_own

TASK = Task(kind="classification", labels=("negative", "positive"))
QUICK = {"epochs": 1, "bf16": False, "dropout": 0, "batch_size": 8, "learning_rate": 1e-3}


def trained(tmp_path, model=None, seed=0, **options):
    """Fine-tune a tiny model on tiny data and return it with the weights it had before."""
    artifact = tiny_artifact(model or tiny_model("bert"))
    before = {name: value.clone() for name, value in artifact.model.state_dict().items()}
    context = Context(seed=seed, workdir=tmp_path, data=tiny_data())
    torch.manual_seed(seed)
    return Finetune(**(QUICK | options)).apply(artifact, context).model, before


def changed(model, before):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    "method", [{"method": "lora", "r": 4}, {"method": "hra"}, {"method": "lora", "use_dora": True}]
)
def test_an_adapter_is_merged_and_leaves_an_ordinary_model(method, tmp_path):
    model, before = trained(tmp_path, adapter=method)
    assert set(model.state_dict()) == set(before), "no module of an adapter is left"
    assert type(model.bert.encoder.layer[0].intermediate.dense) is nn.Linear
    moved = changed(model, before)
    assert {"classifier.weight", "bert.encoder.layer.0.attention.self.query.weight"} <= moved
    assert not any("embeddings" in name or "LayerNorm" in name for name in moved), "the rest was frozen"
    assert all(parameter.requires_grad for parameter in model.parameters())


# What the methods need to fit a model of 32 by 64 weights.
SMALL = {
    "c3a": {"block_size": 2},
    "fourierft": {"n_frequency": 50},
    "miss": {"r": 2},
    "psoft": {"r": 2},
    "road": {"group_size": 2},
    "shira": {"r": 1},
    "waveft": {"n_frequency": 50},
}


@pytest.mark.parametrize("method", MERGING)
def test_merging_an_adapter_changes_no_answer(method, tmp_path):
    model = tiny_model("bert", num_labels=3)
    own, before = set(model.state_dict()), logits(model)
    with adapted(model, Adapter(method=method, **SMALL.get(method, {}))):
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name not in own and "base_layer" not in name:
                parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        during = logits(model)
        assert type(model.classifier) is nn.Linear, "a head is trained itself"
        model.save_pretrained(tmp_path)  # as a checkpoint
    assert torch.allclose(logits(model), during, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(during, before, rtol=1e-3, atol=2e-3)
    assert set(model.state_dict()) == own


def test_adapters_that_do_not_merge_or_do_not_exist_are_refused():
    with pytest.raises(InputError, match="prefix_tuning cannot be merged into the weights.*lora"):
        peft_config(Adapter(method="prefix_tuning", num_virtual_tokens=4))
    with pytest.raises(InputError, match="vera cannot be merged into the weights"):
        peft_config(Adapter(method="vera"))
    with pytest.raises(InputError, match="peft has no method 'lorra'"):
        peft_config(Adapter(method="lorra"))
    with pytest.raises(InputError, match="lora has no option rank. Its options"):
        peft_config(Adapter(method="lora", rank=4))
    plan = ModelPlan(None, TASK, tiny_data(), place="passes[0] (finetune)")
    Finetune(adapter={"method": "p_tuning"}).check(plan)
    assert "p_tuning cannot be merged" in plan.errors[0]


def test_frozen_parts_stay_as_they_are(tmp_path):
    model, before = trained(tmp_path, freeze=["embeddings", 0])
    moved = changed(model, before)
    assert not any("embeddings" in name or "layer.0." in name for name in moved)
    assert any("layer.1." in name for name in moved)
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(InputError, match="no layer 3: the model has 3"), frozen(model, [3]):
        pass


def test_lower_layers_learn_more_slowly():
    model = tiny_model("bert")
    depths = depth_of_parameters(model)
    assert depths["bert.embeddings.word_embeddings.weight"] == 0
    assert depths["bert.encoder.layer.2.output.dense.weight"] == 3
    assert depths["classifier.weight"] == 4
    groups = parameter_groups(model, {"classifier.weight"}, 1.0, 0.1, 0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    # Three layers: the head at 1, layer 2 at ½, layer 0 at ⅛, the embeddings at 1/16.
    assert rates[id(model.classifier.weight)] == 1
    assert rates[id(model.bert.encoder.layer[2].output.dense.weight)] == 0.5
    assert rates[id(model.bert.encoder.layer[0].output.dense.weight)] == 0.125
    assert rates[id(model.bert.embeddings.word_embeddings.weight)] == 0.0625
    decayed = [group for group in groups if group["weight_decay"]]
    assert [len(group["params"]) for group in decayed] == [1]


def test_a_small_layer_decay_hardly_moves_the_embeddings(tmp_path):
    slow, before = trained(tmp_path / "slow", layer_decay=0.1)
    fast, _ = trained(tmp_path / "fast")
    table, head = "bert.embeddings.word_embeddings.weight", "classifier.weight"
    moved = [(each.state_dict()[table] - before[table]).abs().sum() for each in (slow, fast)]
    assert moved[0] < 0.01 * moved[1]
    assert (slow.state_dict()[head] - before[head]).abs().sum() > 0


def test_embeddings_move_against_the_model_by_a_given_length_and_come_back():
    model = tiny_model("bert")
    table = model.get_input_embeddings().weight
    before = table.detach().clone()
    with perturbed_embeddings(model, 0.5):
        assert torch.equal(table, before), "no gradient, no move"
    batch = {"input_ids": torch.tensor([[4, 5, 6]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    labels = torch.tensor([1])
    loss = model(**batch, labels=labels).loss
    loss.backward()
    with perturbed_embeddings(model, 0.5):
        assert (table - before).norm().item() == pytest.approx(0.5, rel=1e-5)
        assert torch.equal(table[7], before[7]), "a word that was not read stays"
        worse = model(**batch, labels=labels).loss
    assert worse > loss
    assert torch.equal(table, before)


def test_moves_that_would_do_nothing_are_refused():
    def refused(task=TASK, **options):
        plan = ModelPlan(tiny_model("bert").config, task, tiny_data(), place="passes[0] (finetune)")
        Finetune(**options).check_trainable(plan)
        return "\n".join(plan.errors)

    assert "they are frozen" in refused(adversarial=1, freeze=["embeddings"])
    assert "they are frozen" in refused(adversarial=1, adapter={"method": "lora"})
    assert "gradient of the whole batch" in refused(adversarial=1, accumulate=2)
    assert "dropout is 0" in refused(r_drop=1, dropout=0)
    assert "the task is embedding" in refused(Task(kind="embedding"), r_drop=1)
    assert not refused(adversarial=1, r_drop=1, freeze=[0])


def test_an_adversarial_step_adds_its_gradient(tmp_path):
    plain, _ = trained(tmp_path / "plain")
    moved, _ = trained(tmp_path / "moved", adversarial=1.0)
    assert not torch.equal(plain.classifier.weight, moved.classifier.weight)


def test_r_drop_worked_by_hand():
    # p = (¾, ¼), q = (½, ½). KL(p‖q) = ¾ log 3/2 + ¼ log ½; KL(q‖p) = ½ log ⅔ + ½ log 2.
    p, q = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    forwards = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    backwards = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert symmetric_divergence(p, q).item() == pytest.approx((forwards + backwards) / 2, rel=1e-5)
    assert symmetric_divergence(torch.tensor([[1.0]]), torch.tensor([[3.0]])).item() == pytest.approx(4)
    # A label with the logit log 3 is yes with ¾; two of them, of which one agrees, have half of it on average.
    several = torch.tensor([[math.log(3), 1.0]]), torch.tensor([[0.0, 1.0]])
    assert symmetric_divergence(*several, labels=True).item() == pytest.approx(
        (forwards + backwards) / 4, rel=1e-5
    )
    tokens = torch.stack([p, torch.full((1, 2), 9.0)], 1), torch.stack([q, torch.tensor([[9.0, 0.0]])], 1)
    mask = torch.tensor([[True, False]])
    assert symmetric_divergence(*tokens, mask).item() == pytest.approx((forwards + backwards) / 2, rel=1e-5)


def test_r_drop_needs_dropout_to_matter(tmp_path):
    without, _ = trained(tmp_path / "a")
    same, _ = trained(tmp_path / "b", r_drop=5.0, dropout=1e-12)
    # Next to no dropout, and both passes agree: the loss is the plain one.
    assert torch.allclose(without.classifier.weight, same.classifier.weight, atol=1e-5)
    model, _ = trained(tmp_path / "c", dropout=0.3)
    other, _ = trained(tmp_path / "d", dropout=0.3, r_drop=5.0)
    assert not torch.allclose(model.classifier.weight, other.classifier.weight, atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "t5", "bart", "opt", "llama", "modernbert"])
def test_dropout_is_what_it_is_said_to_be_in_every_family(family):
    model = tiny_model(family).train()
    own = logits(model.eval())

    def alike(rate):
        model.train()
        with _made_for_training(model, rate, "cpu"):
            return torch.equal(logits(model), logits(model))

    assert alike(0)
    assert not alike(0.5)
    assert torch.equal(logits(model.eval()), own)


def test_r_drop_without_any_dropout_is_refused(tmp_path):
    with pytest.raises(InputError, match="the model has none"):
        trained(tmp_path, model=tiny_model("llama"), r_drop=1, dropout=None)


def test_accumulated_parts_make_the_step_of_the_whole_batch(tmp_path):
    whole, before = trained(tmp_path / "whole")
    parts, _ = trained(tmp_path / "parts", accumulate=4)
    # Adam divides by the gradient's size, so that rounding shows where it is next to nothing.
    apart, moved = (
        sum((value - other[name]).abs().mean() for name, value in whole.state_dict().items())
        for other in (parts.state_dict(), before)
    )
    assert apart < 0.01 * moved
    with pytest.raises(InputError, match="a batch of 8 cannot be shared by 1 processes in 3 parts"):
        trained(tmp_path / "odd", accumulate=3)


@pytest.mark.parametrize("options", [{"optimizer": "adafactor"}, {"schedule": "cosine"}, {"clip": 1e-3}])
def test_other_optimizers_and_schedules_train(options, tmp_path):
    model, before = trained(tmp_path, **options)
    assert "classifier.weight" in changed(model, before)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_rare_classes_weigh_more_and_smoothing_reaches_the_loss():
    labels = np.array([0] * 9 + [1])
    balanced = label_objective(TASK, Finetune(class_balance=1), labels)
    assert balanced.class_weights.tolist() == pytest.approx([10 / 18, 5])
    answer, given = torch.tensor([[math.log(3), 0.0]]), torch.tensor([0])
    assert balanced(answer, given).item() == pytest.approx(10 / 18 * math.log(4 / 3), rel=1e-5)
    # ε = ½ of two classes: target (¾, ¼), which is what the logits say: its entropy.
    smooth = label_objective(TASK, Finetune(label_smoothing=0.5), labels)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert smooth(answer, given).item() == pytest.approx(entropy, rel=1e-5)


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = list(np.random.default_rng(0).integers(3, 60, 1000))
    sampler = LengthBuckets(lengths, 16, seed=3)
    torch.manual_seed(1)
    first = list(sampler)
    torch.manual_seed(2)
    assert list(sampler) == first
    assert sorted(first) == list(range(1000)), "each example once"
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(LengthBuckets(lengths, 16, seed=4)) != first
    padding = [
        max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch)
        for batch in (first[start : start + 16] for start in range(0, 1000, 16))
    ]
    assert sum(padding) < 0.1 * sum(lengths), "a random order has about 80%"
    assert max(lengths) == max(lengths[i] for i in first[:16]), "the longest first"
    assert list(LengthBuckets([4, 5, 6], 16, seed=0)) != []


def test_parts_of_a_step_are_alike_in_size_at_the_end_too():
    sampler = LengthBuckets([5] * 13, 8, seed=0)
    whole = list(sampler)
    parts = StepParts(sampler, 2)
    assert [len(part) for part in parts] == [4, 4, 2, 3]
    assert [index for part in parts for index in part] == whole
    assert len(parts) == 4
    few = list(StepParts(LengthBuckets([5] * 9, 8, seed=0), 2))
    assert few[2] == few[3] != [], "one example is read by both"
    assert list(StepParts(sampler, 1)) == [whole[:8], whole[8:]]


def test_each_epoch_reads_the_stretch_whose_turn_it_is():
    lengths = np.arange(40) % 7 + 3
    sampler = LengthBuckets(lengths, 4, seed=3, turns=(range(10, 20), range(20, 31), range(31, 40)))
    for epoch, turn in enumerate((range(10, 19), range(20, 29), range(31, 40), range(10, 19))):
        sampler.set_epoch(epoch)
        assert (
            len(sampler) == 10 + 9
        )  # as much of a turn as the shortest has, so that epochs have as many steps
        assert sorted(sampler) == [*range(10), *turn]


def test_a_process_trains_on_one_gpu_of_several(tmp_path, monkeypatch):
    setup = TrainingArguments.__post_init__

    def with_four(arguments):
        setup(arguments)
        arguments._n_gpu = 4

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_four)
    arguments = _arguments(Finetune(batch_size=16), Context(0, tmp_path), TASK)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 16)


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    take_device("cuda")
    assert taken == [], "one process alone takes the first, or what CUDA_VISIBLE_DEVICES leaves"
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    take_device("cpu")
    assert taken == []
    take_device("cuda")
    assert taken == [1]


def test_options_that_cannot_be_are_refused():
    plan = ModelPlan(None, TASK, tiny_data(), place="passes[0] (distill)")
    Distill(student="teacher:1", teachers=("a",), teacher_weights=(1.0,), track=("wandb",)).check(plan)
    text = "\n".join(plan.errors)
    assert "1 teacher_weights for 2 teachers" in text
    plan = ModelPlan(None, Task(kind="regression"), tiny_data(), place="passes[0] (finetune)")
    Finetune(label_smoothing=0.1).check(plan)
    assert "label_smoothing and class_balance are for classes, the task is regression" in plan.errors[0]
    assert "wandb is not installed. Install it: pip install wandb." in text


def test_each_training_is_arun_of_its_own(monkeypatch):
    wandb = SimpleNamespace(run=None, ended=[])
    wandb.finish = lambda: wandb.ended.append(wandb.run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with run_of_its_own(["wandb"]):
        wandb.run = "begun by the training"
    assert wandb.ended == ["begun by the training"]
    wandb.run = "the user's"
    with run_of_its_own(["wandb"]):
        pass
    assert len(wandb.ended) == 1, "what was there before goes on"


def test_tensorboard_finds_the_losses_after_the_run(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    context = Context(seed=0, workdir=tmp_path / "scratch", data=tiny_data(), logs=tmp_path / "logs")
    Finetune(epochs=10, batch_size=16, track=("tensorboard",)).apply(
        tiny_artifact(tiny_model("bert")), context
    )
    assert not list((tmp_path / "scratch").rglob("*tfevents*"))
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert {"train/loss", "eval/accuracy"} <= set(events.Tags()["scalars"])
    assert any(str(tmp_path / "logs") in note for note in context.notes)


def test_a_checkpoint_that_a_kill_cut_short_is_passed_over(tmp_path):
    from compress.training.run import last_checkpoint

    assert last_checkpoint(tmp_path) is None
    for step, state in {8: "{}", 12: '{"epoch": 1', 16: ""}.items():
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-20").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-8")
