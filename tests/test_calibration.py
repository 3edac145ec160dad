"""Examples, moments and sensitivities: against plain definitions and brute-force Jacobians."""

from dataclasses import replace

import pytest
import torch
from tiny_data import tiny_data
from tiny_models import tiny_artifact, tiny_batch, tiny_model

from compress.architectures import blocks
from compress.calibration.examples import calibration
from compress.calibration.statistics import (
    EVERY_OUTPUT,
    EVERY_TOKEN,
    measure,
    valid_tokens,
    weights_of_tokens,
)
from compress.errors import InputError
from compress.factorization.run import linears_of

DATA = tiny_data()


def recorded(model, name, batch):
    """Inputs and outputs of every call of a layer, and the logits, all in one graph."""
    calls = []

    def record(module, inputs, output):
        calls.append((inputs[0], output))

    handle = model.get_submodule(name).register_forward_hook(record)
    answer = model(**batch).logits
    handle.remove()
    return calls, answer


def jacobians(model, name, batch):
    """d logits / d output of every call, centred over the classes, (calls, examples, outputs, tokens, width).

    By autograd.functional.jacobian of a shift that is added to the output of one call.
    """
    calls, answer = recorded(model, name, batch)
    found = []
    for number, (_, output) in enumerate(calls):

        def logits_of(shift, number=number):
            seen = iter(range(len(calls)))
            handle = model.get_submodule(name).register_forward_hook(
                lambda _, inputs, y: y + shift if next(seen) == number else y
            )
            try:
                return model(**batch).logits
            finally:
                handle.remove()

        whole = torch.autograd.functional.jacobian(logits_of, torch.zeros_like(output))
        rows = torch.stack([whole[example, :, example] for example in range(len(answer))])
        if rows.shape[1] > 1:
            rows = rows - rows.mean(1, keepdim=True)  # what all classes share changes no probability
        found.append(rows.detach())
    return torch.stack(found)


def expected(model, name, batch):
    """Weights of tokens, mean, covariance and sensitivity by their definitions."""
    mask = batch["attention_mask"].bool()
    calls, answer = recorded(model, name, batch)
    by_call = jacobians(model, name, batch)
    x = torch.cat([inputs[mask] for inputs, _ in calls]).detach()
    weight = torch.cat([rows.square().sum((1, 3))[mask] for rows in by_call])
    sensitivity = torch.einsum("ceoti,ceotj->ij", by_call, by_call) / len(answer)
    weight = weight + EVERY_TOKEN * weight.mean()
    share = (weight / weight.sum())[:, None]
    mean = (share * x).sum(0)
    gram = (x - mean).T @ (share * (x - mean))
    sensitivity = sensitivity + EVERY_OUTPUT * sensitivity.diagonal().mean() * torch.eye(
        len(sensitivity), dtype=x.dtype
    )
    return weight / weight.mean(), mean, gram, sensitivity


@pytest.mark.parametrize(
    ("family", "num_labels"), [("bert", 1), ("bert", 2), ("bert", 3), ("llama", 2), ("albert", 2), ("opt", 2)]
)
def test_statistics_equal_brute_force(family, num_labels):
    model = tiny_model(family, layers=2, num_labels=num_labels).double()
    batch = tiny_batch()
    block = blocks(model)[0]
    names = [block.attentions[0].output, block.feed_forwards[0].inputs[0].module]
    if family == "opt":  # it hands its feed-forward part (examples · tokens, width)
        names = names[:1]
    found = measure(model, [batch], names)
    for name in names:
        weight, mean, gram, sensitivity = expected(model, name, batch)
        seen = found[name]
        assert seen.calls == (2 if family == "albert" else 1)
        torch.testing.assert_close(seen.token_weights, weight, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(seen.mean, mean)
        torch.testing.assert_close(seen.gram, gram)
        torch.testing.assert_close(seen.sensitivity, sensitivity)


def test_many_classes_are_followed_by_probes_that_agree_on_average():
    model, batch = tiny_model("bert", layers=1, num_labels=6).double(), tiny_batch()
    name = blocks(model)[0].feed_forwards[0].output
    *_, exact = expected(model, name, batch)
    found = [measure(model, [batch], [name], seed=seed)[name].sensitivity for seed in range(100)]
    error = (torch.stack(found).mean(0) - exact).norm() / exact.norm()
    assert error < 0.2  # 400 probes of 24 free directions
    assert torch.equal(measure(model, [batch], [name], seed=3)[name].sensitivity, found[3])


def test_without_gradients_all_tokens_and_outputs_count_alike():
    model, batch = tiny_model("bert"), tiny_batch()
    name = blocks(model)[1].attentions[0].query.module
    ((x, _),), _ = recorded(model, name, batch)
    seen = measure(model, [batch], [name], gradients=False)[name]
    rows = x[batch["attention_mask"].bool()].double()
    assert len(rows) == 12 + 9 + 7 + 4
    torch.testing.assert_close(seen.mean, rows.mean(0))
    torch.testing.assert_close(seen.gram, rows.T.cov(correction=0))
    assert torch.equal(seen.sensitivity, torch.eye(32, dtype=torch.float64))
    assert len(seen.token_weights) == 0


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("family", ["bert", "gpt2", "albert", "opt"])
def test_neither_batching_nor_padding_changes_anything(family, gradients):
    model, whole = tiny_model(family).double(), tiny_batch()
    parts = [{key: value[rows] for key, value in whole.items()} for rows in (slice(0, 1), slice(1, 4))]
    wider = {
        key: torch.nn.functional.pad(value, (0, 5), value=pad)
        for (key, value), pad in zip(whole.items(), (1, 0), strict=True)
    }
    names = linears_of(model)
    once, twice, padded = (measure(model, some, names, gradients) for some in ([whole], parts, [wider]))
    for other in (twice, padded):
        for name in names:
            for field in ("mean", "gram", "sensitivity"):
                torch.testing.assert_close(
                    getattr(other[name], field), getattr(once[name], field), rtol=1e-6, atol=1e-9
                )


def test_the_model_is_left_as_it_was():
    model = tiny_model("bert").train()
    model.get_input_embeddings().requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    measure(model, [tiny_batch()], linears_of(model))
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_error_leaves_no_hooks_behind():
    model = tiny_model("bert")
    with pytest.raises(IndexError):
        measure(model, [{"input_ids": torch.tensor([[99]])}], linears_of(model))
    assert not any(module._forward_hooks for module in model.modules())


def test_tokens_are_those_of_the_mask_in_either_layout():
    x, mask = torch.arange(12.0).view(2, 3, 2), torch.tensor([[1, 1, 0], [1, 0, 0]])
    kept = x[mask.bool()]
    assert torch.equal(valid_tokens(x, mask), kept)
    assert torch.equal(valid_tokens(x.flatten(0, 1), mask), kept)
    assert torch.equal(valid_tokens(x, None), x.flatten(0, 1))
    assert torch.equal(valid_tokens(x[:, :2], mask), x[:, :2].flatten(0, 1)), "another sequence"


def test_token_weights_are_used_for_the_rows_they_were_measured_on_only():
    model, batch = tiny_model("bert"), tiny_batch()
    name = blocks(model)[0].feed_forwards[0].output
    seen = measure(model, [batch], [name])
    assert weights_of_tokens(seen, name, torch.zeros(32, 64)) is seen[name].token_weights
    assert weights_of_tokens(seen, name, torch.zeros(31, 64)) is None
    assert weights_of_tokens({}, name, torch.zeros(32, 64)) is None


def test_the_same_examples_come_in_batches_and_whole():
    artifact = tiny_artifact(tiny_model("bert"))
    found = calibration(artifact, DATA, 40, seed=0)
    assert found.examples == 40
    assert [len(labels) for _, labels in found.batches] == [32, 8]
    rows = torch.cat([valid_tokens(b["input_ids"][..., None], b["attention_mask"]) for b in found.inputs])
    whole = valid_tokens(found.whole["input_ids"][..., None], found.whole["attention_mask"])
    assert torch.equal(rows, whole), "token weights of the one are those of the other"
    assert calibration(artifact, DATA, 500, seed=0).examples == len(DATA.train)
    other = calibration(artifact, DATA, 40, seed=1)
    assert not torch.equal(other.whole["input_ids"], found.whole["input_ids"])


def test_very_long_texts_are_fewer(monkeypatch):
    from compress.calibration import examples

    monkeypatch.setattr(examples, "TOKENS_AT_ONCE", 30)
    found = calibration(tiny_artifact(tiny_model("bert")), DATA, 40, seed=0)
    assert found.whole["input_ids"].numel() <= 30
    assert sum(len(labels) for _, labels in found.batches) == found.examples


def test_no_training_examples_are_refused():
    empty = replace(DATA, train=DATA.train.select([]))
    with pytest.raises(InputError, match="data: there is no training example to calibrate on"):
        calibration(tiny_artifact(tiny_model("bert")), empty, 8, seed=0)


def test_a_tokenizer_of_another_model_is_refused():
    artifact = tiny_artifact(tiny_model("bert"))
    artifact.model.resize_token_embeddings(6)
    with pytest.raises(InputError, match=r"the tokenizer gives id \d+, but the model has 6 embeddings"):
        calibration(artifact, DATA, 8, seed=0)
