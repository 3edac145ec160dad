"""How units are scored and chosen."""

import pytest
import torch
from tiny_models import logits, tiny_batch, tiny_model

from compress.calibration.examples import example_losses
from compress.pruning import criteria
from compress.pruning.parts import attentions_of, feed_forwards_of, parts_of
from compress.pruning.surgery import keep_heads
from compress.tasks import Task

LABELS = torch.tensor([0, 1, 1, 0])


def example_loss_with_head_scaled(model, layer, head, scale, row):
    """One example's loss when one head's output is multiplied by `scale`."""
    mask = torch.ones(32, dtype=torch.float64)
    mask[8 * head : 8 * head + 8] = scale
    module = model.get_submodule(attentions_of(model)[layer].output)
    handle = module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * mask,))
    batch = {name: value[row : row + 1] for name, value in tiny_batch().items()}
    loss = example_losses(Task(kind="classification"))(logits(model, batch), LABELS[row : row + 1]).item()
    handle.remove()
    return loss


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet"])
def test_scores_are_means_of_each_examples_own_mask_gradient(family):
    model = tiny_model(family).double()
    parts, batches = attentions_of(model), [(tiny_batch(), LABELS)]
    loss = example_losses(Task(kind="classification"))
    step = 1e-4
    slopes = [  # central differences, one example at a time
        (
            example_loss_with_head_scaled(model, 1, 2, 1 + step, row)
            - example_loss_with_head_scaled(model, 1, 2, 1 - step, row)
        )
        / (2 * step)
        for row in range(4)
    ]
    fisher = criteria.fisher(model, parts, batches, loss)[1][2].item()
    taylor = criteria.taylor(model, parts, batches, loss)[1][2].item()
    assert fisher == pytest.approx(sum(slope**2 for slope in slopes) / 4, rel=1e-4)
    assert taylor == pytest.approx(sum(abs(slope) for slope in slopes) / 4, rel=1e-4)


def test_scores_do_not_depend_on_how_examples_are_batched():
    model, loss = tiny_model("bert"), example_losses(Task(kind="classification"))
    whole = [(tiny_batch(), LABELS)]
    halves = [
        ({name: value[rows] for name, value in tiny_batch().items()}, LABELS[rows])
        for rows in (slice(0, 1), slice(1, 4))
    ]
    parts = parts_of(model)
    for one, other in zip(
        criteria.fisher(model, parts, whole, loss), criteria.fisher(model, parts, halves, loss), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("family", ["bert", "mpnet", "gpt2", "llama", "albert", "t5", "opt"])
def test_every_criterion_scores_every_unit_and_leaves_the_model_alone(family):
    model = tiny_model(family).train()
    model.get_input_embeddings().requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    loss = example_losses(Task(kind="classification"))
    batches = [(tiny_batch(eos=2 if family == "t5" else None), LABELS)]
    parts = parts_of(model)
    for scores in (
        criteria.fisher(model, parts, batches, loss),
        criteria.taylor(model, parts, batches, loss),
        criteria.activation(model, parts, batches),
        criteria.magnitude(model, parts),
        criteria.random(parts, 0),
    ):
        assert [layer.shape for layer in scores] == [(part.units,) for part in parts]
        assert all(layer.dtype == torch.float64 for layer in scores)
        assert all((layer > 0).all() for layer in scores[: len(attentions_of(model))])
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())


def test_uneven_layers_are_scored_by_what_is_there():
    model = tiny_model("bert")
    keep_heads(model, attentions_of(model)[0], [3])
    loss = example_losses(Task(kind="classification"))
    scores = criteria.fisher(model, attentions_of(model), [(tiny_batch(), LABELS)], loss)
    assert [len(layer) for layer in scores] == [1, 4, 4]


def test_regression_is_scored_by_squared_error():
    model, scores = tiny_model("bert", num_labels=1), torch.tensor([0.5, -1.0, 2.0, 0.0])
    loss = example_losses(Task(kind="regression"))
    assert torch.equal(loss(torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 4.0])), torch.tensor([1.0, 4.0]))
    assert (criteria.fisher(model, feed_forwards_of(model), [(tiny_batch(), scores)], loss)[0] > 0).any()


def test_magnitude_is_the_norm_of_what_would_go_over_the_layers_mean():
    model = tiny_model("bert")
    layer = model.bert.encoder.layer[0]
    rows, columns = layer.intermediate.dense.weight, layer.output.dense.weight
    norms = torch.cat([rows, columns.T], dim=1).norm(dim=1).double()
    torch.testing.assert_close(
        criteria.magnitude(model, feed_forwards_of(model))[0],
        norms / norms.mean(),
        rtol=1e-5,
        atol=0,
        check_dtype=False,
    )


def test_random_scores_follow_the_seed():
    model = tiny_model("bert")
    one, same, other = (criteria.random(attentions_of(model), seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_activation_is_the_norm_of_what_a_unit_adds_to_the_output():
    model, batch = tiny_model("bert"), tiny_batch()
    dense = model.bert.encoder.layer[1].output.dense
    seen = []
    handle = dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits(model, batch)
    handle.remove()
    x = seen[0][batch["attention_mask"].bool()].double()
    norms = torch.stack([torch.outer(x[:, j], dense.weight[:, j].double()).norm() for j in range(64)])
    found = criteria.activation(model, feed_forwards_of(model), [(batch, LABELS)])[1]
    torch.testing.assert_close(found, norms / norms.mean(), rtol=1e-5, atol=0)
