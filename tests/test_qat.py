"""Training with int8 roundings in place: the same answers as int8, gradients as if nothing were rounded."""

import copy

import pytest
import torch
from test_int8 import uneven_low_rank_model
from tiny_data import tiny_data
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn

from compress.artifact import save
from compress.errors import InputError
from compress.layers import Int8Embedding, Int8Linear, SharedEmbedding
from compress.passes.base import Context, ModelPlan
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.quantization import quantize_model, quantize_weight
from compress.quantization.fake import FakeInt8Embedding, FakeInt8Linear
from compress.quantization.qat import fake_quantized
from compress.tasks import Task
from compress.training.trainer import ObjectiveTrainer


def shared_model():
    """Pairs of ids read one row, as the vocabulary pass leaves them."""
    model = tiny_model("bert", layers=1)
    table = model.bert.embeddings.word_embeddings
    kept = torch.arange(0, table.num_embeddings, 2)
    model.bert.embeddings.word_embeddings = SharedEmbedding.of(
        table, kept, torch.arange(table.num_embeddings) // 2
    )
    return model


def short_model():
    context = Context(seed=0, workdir=None)
    return Prune(layers=1).apply(tiny_artifact(tiny_model("bert")), context).model


@pytest.mark.parametrize("bias", [True, False])
def test_linear_answers_as_int8_bit_for_bit(bias):
    torch.manual_seed(0)
    linear = nn.Linear(600, 48, bias=bias)
    layer = Int8Linear(600, 48, bias)
    layer.weight, layer.scale = quantize_weight(linear.weight)
    layer.bias = linear.bias.detach() if bias else None
    x = torch.randn(2, 9, 600)
    fake = FakeInt8Linear.of(linear)
    assert torch.equal(fake(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fake(x), layer(x))
    assert fake.plain().weight is linear.weight
    assert fake.plain().bias is linear.bias


def test_gradients_are_those_of_the_rounded_values():
    # Inputs up to 2.55 from 0: a step is 0.01 and 1.004 rounds to 1. The largest weight is 1.27: a step is 0.01
    # and 0.636 rounds to 0.64. With dL/dy = 2: dL/dx = 2 Ŵ, dL/dW = 2 x̂, dL/db = 2.
    linear = nn.Linear(2, 1)
    linear.weight.data = torch.tensor([[1.27, 0.636]])
    x = torch.tensor([[2.55, 1.004]], requires_grad=True)
    y = FakeInt8Linear.of(linear)(x)
    # y = 2.55 · 1.27 + 1 · 0.64 + b
    assert y.item() == pytest.approx(3.8785 + linear.bias.item(), abs=1e-5)
    (2 * y).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[2.54, 1.28]]))
    torch.testing.assert_close(linear.weight.grad, torch.tensor([[5.1, 2.0]]))
    assert linear.bias.grad.item() == 2


def test_gradients_in_bfloat16_are_near_those_in_float32():
    torch.manual_seed(0)
    grads = []
    linear, x = nn.Linear(64, 32), torch.randn(5, 64)
    for enabled in (False, True):
        linear.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = FakeInt8Linear.of(linear)(x)
        y.square().sum().backward()
        grads.append(linear.weight.grad.clone())
    # Codes are exact in bfloat16; the other factor is off by 2^-9 of itself at most.
    assert (grads[0] - grads[1]).norm() < 2**-8 * grads[0].norm()


def test_embedding_answers_as_int8_and_its_padding_row_gets_no_gradient():
    table = nn.Embedding(6, 16, padding_idx=2)
    layer = Int8Embedding(6, 16)
    layer.weight, scale = quantize_weight(table.weight)
    layer.scale = scale[:, None]
    ids = torch.tensor([[2, 5, 5], [0, 2, 1]])
    rows = FakeInt8Embedding.of(table)(ids)
    assert torch.equal(rows, layer(ids))
    rows.sum().backward()
    # Each row gets the gradient 1 as often as it is read, but for the row of padding.
    assert table.weight.grad[:, 0].tolist() == [1, 1, 0, 0, 0, 2]


MODELS = {
    "bert": lambda: tiny_model("bert"),
    "gpt2": lambda: tiny_model("gpt2"),
    "llama": lambda: tiny_model("llama"),
    "t5": lambda: tiny_model("t5"),
    "albert": lambda: tiny_model("albert"),
    "pruned low-rank": uneven_low_rank_model,
    "shared rows": shared_model,
    "fewer layers": short_model,
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("embeddings", [True, False])
def test_converted_model_gives_the_trained_models_logits(kind, embeddings):
    model = MODELS[kind]()
    with fake_quantized(model, embeddings) as names:
        batch = tiny_batch(eos=model.config.eos_token_id if model.config.is_encoder_decoder else None)
        loss = model(**batch).logits.square().sum()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad / (parameter.grad.norm() + 1)
        trained = logits(model)
    assert not any(isinstance(m, FakeInt8Linear | FakeInt8Embedding) for m in model.modules())
    assert quantize_model(model, embeddings) == names
    assert torch.equal(logits(model), trained)


def test_layers_are_plain_again_after_a_failure():
    model = tiny_model("bert", layers=1)
    model.bert.encoder.layer[0].output.dense.weight.data[0, 0] = torch.nan
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(InputError, match="not all finite"), fake_quantized(model):
        logits(model)
    assert [type(module) for module in model.modules()] == kinds


def context_in(folder, artifact, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "cache"))
    save(artifact, folder / "model")
    (folder / "work").mkdir(parents=True)
    return Context(seed=0, workdir=folder / "work", data=tiny_data(), input_folder=folder / "model")


def test_pass_trains_and_leaves_an_ordinary_int8_model(tmp_path, monkeypatch):
    artifact = tiny_artifact(uneven_low_rank_model())
    rounded = copy.deepcopy(artifact.model)
    quantize_model(rounded)
    context = context_in(tmp_path, artifact, monkeypatch)
    result = Quantize(scheme="qat", epochs=2, learning_rate=1e-3).apply(artifact, context)
    kinds = {type(module).__name__ for module in result.model.modules()}
    assert {"Int8Linear", "Int8Embedding"} <= kinds
    assert not any(kind.startswith("Fake") for kind in kinds)
    assert not torch.equal(logits(result.model), logits(rounded)), "it was trained"
    assert any(note.startswith("int8: ") for note in context.notes)
    assert_reloads(result, tmp_path / "int8")


def test_training_that_was_cut_off_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    def train(folder):
        context = context_in(tmp_path / folder, tiny_artifact(tiny_model("bert", layers=1)), monkeypatch)
        return Quantize(scheme="qat", epochs=3).apply(tiny_artifact(tiny_model("bert", layers=1)), context)

    straight = train("straight")
    write = ObjectiveTrainer._save_checkpoint

    def cut(trainer, *args, **kwargs):
        write(trainer, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ObjectiveTrainer, "_save_checkpoint", cut)
        with pytest.raises(KeyboardInterrupt):
            train("cut")
    steps = []
    step = ObjectiveTrainer.training_step
    monkeypatch.setattr(
        ObjectiveTrainer, "training_step", lambda *args, **kwargs: steps.append(1) or step(*args, **kwargs)
    )
    context = Context(
        seed=0, workdir=tmp_path / "cut/work", data=tiny_data(), input_folder=tmp_path / "cut/model"
    )
    again = Quantize(scheme="qat", epochs=3).apply(tiny_artifact(tiny_model("bert", layers=1)), context)
    # 48 texts in batches of 32 are two steps an epoch, and one epoch of three was done before.
    assert len(steps) == 4
    assert torch.equal(logits(again.model), logits(straight.model))


@pytest.mark.parametrize(
    ("options", "plan", "refused"),
    [
        ({"scheme": "qat"}, {"data": None}, "scheme qat needs data and a model with a trained head"),
        ({"scheme": "qat"}, {"task": None}, "scheme qat needs data and a model with a trained head"),
        ({"scheme": "qat", "teacher": "step:1"}, {}, "step:1 is not a pass before this one"),
        ({"epochs": 1}, {}, "epochs has no meaning for scheme: dynamic. Leave it out, or give scheme: qat"),
        ({"scheme": "weight4", "teacher": "step:1"}, {}, "teacher has no meaning for scheme: weight4"),
        ({"scheme": "qat", "block": 32}, {}, "block has no meaning for scheme: qat"),
        ({"scheme": "qat"}, {"quantized": True}, "quantized already"),
    ],
)
def test_pass_refuses(options, plan, refused):
    known = {"config": None, "task": Task(kind="classification", labels=("a", "b")), "data": tiny_data()}
    state = ModelPlan(**known | plan)
    Quantize(**options).check(state)
    assert len(state.errors) == 1
    assert refused in state.errors[0]


def test_a_named_teacher_decides_the_result_too():
    assert Quantize(scheme="qat", teacher="runs/teacher").model_names() == ("runs/teacher",)
    assert Quantize(scheme="qat", teacher="step:1").model_names() == ()
    assert Quantize().model_names() == ()
