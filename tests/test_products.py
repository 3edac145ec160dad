"""Symmetric products in float32 equal those in float64, whatever the mean of what is multiplied."""

from types import SimpleNamespace

import torch
from torch import nn

from compress.calibration.products import add_product_, mirror_
from compress.calibration.statistics import EVERY_TOKEN, measure
from compress.pruning.elimination import surgeon


def test_products_equal_the_whole_product_for_any_width():
    torch.manual_seed(0)
    for width in (1, 256, 257, 600):  # one block, just one, one and a column, three
        x, weight = torch.randn(20, width), torch.rand(20, 1)
        total = torch.zeros(width, width)
        add_product_(total, x, weight * x)
        add_product_(total, x, x)
        expected = x.double().T @ ((1 + weight) * x).double()
        # 40 rows of products of standard normal numbers: an error of 40 · 2⁻²⁴ · 20 at the very worst.
        torch.testing.assert_close(mirror_(total).double(), expected, rtol=0, atol=5e-5)
        assert torch.equal(total, total.T)


class _Squares(nn.Module):
    """A model whose Jacobian differs from token to token."""

    base_model = None  # it answers itself, with one number
    config = SimpleNamespace(num_labels=1)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        output = self.linear(x)
        return SimpleNamespace(
            logits=(output * torch.arange(1.0, 1 + x.shape[1])[:, None]).sum((1, 2))[:, None]
        )


def test_moments_in_float32_are_those_of_float64_where_the_mean_dwarfs_the_variance():
    torch.manual_seed(0)
    # Mean 100, variance 1: squared as they are, rounding alone would be 100² · 2⁻²⁴ = 6e-4 of the variance.
    batches = [{"x": 100 + torch.randn(16, 32, 300)} for _ in range(4)]
    seen = measure(_Squares(300), batches, ["linear"])["linear"]  # type: ignore[arg-type]
    x = torch.cat([batch["x"] for batch in batches]).flatten(0, 1).double()
    weight = torch.arange(1.0, 33).double().square().mul(3).repeat(64)
    weight = weight + EVERY_TOKEN * weight.mean()
    share = (weight / weight.sum())[:, None]
    mean = (share * x).sum(0)
    gram = (x - mean).T @ (share * (x - mean))
    torch.testing.assert_close(seen.token_weights, weight / weight.mean())
    torch.testing.assert_close(seen.mean, mean, rtol=1e-7, atol=0)
    # √2048 tokens · 2⁻²⁴ = 3e-6 of the diagonal, which is 1.
    torch.testing.assert_close(seen.gram, gram, rtol=0, atol=5e-6)
    bounds = [torch.linalg.eigvalsh(matrix)[0] for matrix in (seen.gram, gram)]
    torch.testing.assert_close(bounds[0], bounds[1], rtol=1e-5, atol=0)


def test_inputs_that_never_vary_have_no_covariance_and_can_be_eliminated():
    torch.manual_seed(0)
    model, x = _Squares(40), 100 * torch.randn(40).expand(16, 32, 40)
    seen = measure(model, [{"x": x}, {"x": x[:3]}], ["linear"])["linear"]  # type: ignore[arg-type]
    assert not seen.gram.any()
    torch.testing.assert_close(seen.mean, x[0, 0].double(), rtol=1e-6, atol=0)
    found = surgeon(model.linear.weight.detach(), seen.gram, seen.sensitivity, 1)
    assert found.error(0) < 1e-20
