"""Leading a compressed model back to the dense one's residual stream."""

import pytest
import torch
from tiny_models import logits, tiny_batch, tiny_model
from torch import nn

from compress.calibration.reconstruction import RIDGE, least_squares, reconstruct, set_weights
from compress.calibration.targets import record_targets
from compress.pruning.parts import feed_forwards_of, parts_of
from compress.pruning.prune import reconstruct_outputs
from compress.pruning.surgery import keep_neurons

STREAMS = ["bert", "distilbert", "gpt2", "llama"]


def solve(name, linear, x, wanted):
    weight, mean_x, mean_y, _ = least_squares(linear, x, wanted)
    set_weights(linear, weight, mean_x, mean_y)


def linear_names(model):
    return [
        part.output for part in parts_of(model) if isinstance(model.get_submodule(part.output), nn.Linear)
    ]


@pytest.mark.parametrize("family", STREAMS)
def test_every_output_is_led_by_the_stream_that_it_is_added_to(family):
    model = tiny_model(family)
    targets = record_targets(model, tiny_batch(), [part.output for part in parts_of(model)])
    assert len(targets) == 6
    assert all(target.norm for target in targets.values())
    assert all(target.values.shape == (32, 32) for target in targets.values()), "32 tokens are no padding"


def test_layers_that_run_more_than_once_have_no_target():
    model = tiny_model("albert")
    assert record_targets(model, tiny_batch(), [part.output for part in parts_of(model)]) == {}


class Odd(nn.Module):
    """What the norm reads is y + r in `added`, but not where r depends on y."""

    def __init__(self):
        super().__init__()
        self.plain, self.gated, self.last = (nn.Linear(4, 4) for _ in range(3))
        self.first_norm, self.second_norm = nn.LayerNorm(4), nn.LayerNorm(4)

    def forward(self, x, attention_mask=None):
        x = self.first_norm(x + self.plain(x))
        y = self.gated(x)
        return self.last(self.second_norm(y + y.sin()))


def test_a_stream_is_proven_and_not_assumed():
    model, x = Odd(), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    targets = record_targets(model, {"x": x}, ["plain", "gated", "last"])
    assert {name: target.norm for name, target in targets.items()} == {
        "plain": "first_norm",
        "gated": "",
        "last": "",
    }
    wanted = targets["gated"].wanted(None)
    torch.testing.assert_close(wanted, model.gated(model.first_norm(x + model.plain(x))).flatten(0, 1))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_nothing_changes_in_an_untouched_model(family):
    model, batch = tiny_model(family), tiny_batch()
    expected = logits(model, batch)
    reconstruct(model, batch, record_targets(model, batch, linear_names(model)), solve)
    torch.testing.assert_close(logits(model, batch), expected, rtol=0, atol=1e-4)


def stream_errors(model, batch, targets):
    """Squared distance to the dense stream at every part."""
    found, handles = {}, []
    for name, target in targets.items():

        def compare(_, inputs, name=name, target=target):
            z = inputs[0][batch["attention_mask"].bool()]
            found[name] = (z - target.values).square().sum().item()

        handles.append(model.get_submodule(target.norm).register_forward_pre_hook(compare))
    logits(model, batch)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_after_pruning_the_stream_is_nearer(family):
    model, batch = tiny_model(family), tiny_batch()
    targets = record_targets(model, batch, linear_names(model))
    for part in feed_forwards_of(model):
        keep_neurons(model, part, range(32))
    before = stream_errors(model, batch, targets)
    reconstruct_outputs(model, batch, targets, {})
    after = stream_errors(model, batch, targets)
    cut = {name for name, error in before.items() if error > 1e-6}
    assert len(cut) >= 5
    if family == "bert":  # a normalisation after every part keeps what is left from growing
        assert all(after[name] < before[name] for name in cut)
    assert after[max(cut)] < before[max(cut)]
    assert sum(after.values()) < sum(before.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("bias", [True, False])
def test_least_squares_is_ridge_regression_towards_the_present_weights(bias):
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(5, 3, bias=bias).double()
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64) + 1
    y = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    w = torch.rand(40, generator=generator, dtype=torch.float64)
    share = (w / w.sum())[:, None]
    mean_x, mean_y = ((share * x).sum(0), (share * y).sum(0)) if bias else (torch.zeros(5), torch.zeros(3))
    centred = (x - mean_x) * share.sqrt()
    ridge = RIDGE * (centred.square().sum() / 5)
    rows = torch.cat([centred, ridge.sqrt() * torch.eye(5)])
    right = torch.cat([(y - mean_y) * share.sqrt(), ridge.sqrt() * linear.weight.T])
    weight, found_x, found_y, gram = least_squares(linear, x, y, w)
    torch.testing.assert_close(weight, torch.linalg.lstsq(rows, right).solution.T)
    torch.testing.assert_close(gram, centred.T @ centred)
    set_weights(linear, weight, found_x, found_y)
    if bias:
        torch.testing.assert_close((share * linear(x)).sum(0), mean_y)


def test_one_token_is_enough_to_stay_finite():
    linear, x = nn.Linear(5, 3), torch.ones(1, 5)
    weight = linear.weight.clone()
    solve("", linear, x, torch.ones(1, 3))
    torch.testing.assert_close(linear.weight, weight)
    torch.testing.assert_close(linear(x), torch.ones(1, 3))
