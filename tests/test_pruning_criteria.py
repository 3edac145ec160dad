"""How units are scored and chosen."""

import pytest
import torch
from tiny_models import FAMILIES, logits, tiny_batch, tiny_model

from compress.architectures import matrices_of
from compress.pruning import criteria
from compress.pruning.masks import choose
from compress.pruning.surgery import keep_heads

LABELS = torch.tensor([0, 1, 1, 0])


def example_loss_with_head_scaled(model, layer, head, scale, row):
    """One example's loss when one head's output is multiplied by `scale`."""
    mask = torch.ones(32, dtype=torch.float64)
    mask[8 * head : 8 * head + 8] = scale
    module = model.get_submodule(matrices_of(model)[layer]["attention_output"])
    handle = module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * mask,))
    batch = {name: value[row : row + 1] for name, value in tiny_batch().items()}
    loss = criteria.example_losses("classification")(logits(model, batch), LABELS[row : row + 1]).item()
    handle.remove()
    return loss


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet"])
def test_scores_are_means_of_each_examples_own_mask_gradient(family):
    model = tiny_model(family).double()
    batches = [(tiny_batch(), LABELS)]
    loss = criteria.example_losses("classification")
    step = 1e-4
    slopes = [  # central differences, one example at a time
        (
            example_loss_with_head_scaled(model, 1, 2, 1 + step, row)
            - example_loss_with_head_scaled(model, 1, 2, 1 - step, row)
        )
        / (2 * step)
        for row in range(4)
    ]
    fisher = criteria.fisher(model, batches, loss).heads[1][2].item()
    taylor = criteria.taylor(model, batches, loss).heads[1][2].item()
    assert fisher == pytest.approx(sum(slope**2 for slope in slopes) / 4, rel=1e-4)
    assert taylor == pytest.approx(sum(abs(slope) for slope in slopes) / 4, rel=1e-4)


def test_scores_do_not_depend_on_how_examples_are_batched():
    model, loss = tiny_model("bert"), criteria.example_losses("classification")
    whole = [(tiny_batch(), LABELS)]
    parts = [
        ({name: value[rows] for name, value in tiny_batch().items()}, LABELS[rows])
        for rows in (slice(0, 1), slice(1, 4))
    ]
    for one, other in zip(
        criteria.fisher(model, whole, loss).neurons, criteria.fisher(model, parts, loss).neurons, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_criterion_scores_every_unit_and_leaves_the_model_alone(family):
    model = tiny_model(family).train()
    model.get_input_embeddings().requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    loss, batches = criteria.example_losses("classification"), [(tiny_batch(), LABELS)]
    for importance in (
        criteria.fisher(model, batches, loss),
        criteria.taylor(model, batches, loss),
        criteria.magnitude(model),
        criteria.random(model, 0),
    ):
        assert [layer.shape for layer in importance.heads] == [(4,)] * 3
        assert [layer.shape for layer in importance.neurons] == [(64,)] * 3
        assert all((layer > 0).all() for layer in importance.heads)
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())


def test_uneven_layers_are_scored_by_what_is_there():
    model = tiny_model("bert")
    keep_heads(model, 0, [3])
    importance = criteria.fisher(model, [(tiny_batch(), LABELS)], criteria.example_losses("classification"))
    assert [len(layer) for layer in importance.heads] == [1, 4, 4]


def test_regression_is_scored_by_squared_error():
    model, scores = tiny_model("bert", num_labels=1), torch.tensor([0.5, -1.0, 2.0, 0.0])
    loss = criteria.example_losses("regression")
    assert torch.equal(loss(torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 4.0])), torch.tensor([1.0, 4.0]))
    assert (criteria.fisher(model, [(tiny_batch(), scores)], loss).neurons[0] > 0).any()


def test_magnitude_is_the_norm_of_what_would_go_over_the_layers_mean():
    model = tiny_model("bert")
    layer = model.bert.encoder.layer[0]
    rows, columns = layer.intermediate.dense.weight, layer.output.dense.weight
    norms = torch.cat([rows, columns.T], dim=1).norm(dim=1).double()
    torch.testing.assert_close(
        criteria.magnitude(model).neurons[0], norms / norms.mean(), rtol=1e-5, atol=0, check_dtype=False
    )


def test_random_scores_follow_the_seed():
    model = tiny_model("bert")
    one, same, other = (criteria.random(model, seed).heads[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_least_important_units_of_all_layers_go():
    scores = [torch.tensor([5.0, 1.0, 4.0, 2.0]), torch.tensor([9.0, 8.0, 7.0, 3.0])]
    assert choose(scores, 0.5, [1, 1]) == [[0], [0, 1, 2]]


@pytest.mark.parametrize(("ratio", "removed"), [(0.1, 2), (0.25, 6), (0.5, 12), (0.9, 21)])
def test_the_share_removed_is_exact_until_floors_prevent_it(ratio, removed):
    # 24 units; with a floor of one in each of three layers at most 21 can go (0.9 asks for 22).
    generator = torch.Generator().manual_seed(0)
    kept = choose([torch.rand(8, generator=generator) for _ in range(3)], ratio, [1, 1, 1])
    assert 24 - sum(map(len, kept)) == removed
    assert min(map(len, kept)) >= 1


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("width", [64, 100])
def test_widths_are_multiples_of_eight_near_the_budget(ratio, width):
    generator = torch.Generator().manual_seed(1)
    scores = [torch.rand(width, generator=generator) * (layer + 1) for layer in range(4)]
    counts = [len(layer) for layer in choose(scores, ratio, [8] * 4, multiple=8)]
    assert all(count % 8 == 0 or count == width for count in counts)
    assert min(counts) >= 8
    wanted = max(4 * width - round(ratio * 4 * width), 4 * 8)
    assert abs(sum(counts) - wanted) <= 4
