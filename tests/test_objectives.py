"""Losses on what happens inside two models, each against a value worked by hand."""

import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from compress.distillation.layer_map import layer_pairs
from compress.distillation.objectives import (
    AttentionMaps,
    Embedding,
    HiddenStates,
    Match,
    Relations,
    SentenceCosine,
)
from compress.distillation.objectives.base import Pair
from compress.distillation.objectives.cosine import MeanCosine
from compress.distillation.objectives.maps import MapError
from compress.distillation.objectives.projected import ProjectedStates
from compress.distillation.objectives.relation_divergence import RelationDivergence
from compress.distillation.objectives.soft_targets import similarity_error
from compress.distillation.schedule import value_at
from compress.distillation.signals import Signal
from compress.errors import InputError

ALL = torch.ones(1, 2, dtype=torch.bool)


def test_states_of_one_width_are_compared_as_they_are():
    # Two tokens. Errors (1, 0) and (0, 2): (1 + 4) / 2 = 5/2. The teacher's mean is (1, 1), its deviations (1, 1) and
    # (−1, −1): v = (2 + 2) / 2 = 2. 5/2 / 2.
    teacher = torch.tensor([[[2.0, 2.0], [0.0, 0.0]]])
    student = torch.tensor([[[3.0, 2.0], [0.0, 2.0]]])
    loss = ProjectedStates([2], [2])
    loss.fit([teacher], [student], ALL)
    assert loss([teacher], [student], ALL).item() == pytest.approx(5 / 4)
    assert not list(loss.parameters()), "no projection where the widths are alike"
    # v stays what it was in other batches: error (1, 0) alone, 1 / 2.
    assert loss([teacher[:, :1]], [student[:, :1]], ALL[:, :1]).item() == pytest.approx(1 / 2)
    # A second pair without error halves the mean.
    two = ProjectedStates([2, 2], [2, 2])
    two.fit([teacher, teacher], [student, teacher], ALL)
    assert two([teacher, teacher], [student, teacher], ALL).item() == pytest.approx(5 / 8)


def test_padding_does_not_count():
    mask = torch.tensor([[True, True, False]])
    junk = torch.full((1, 1, 2), 99.0)
    teacher, student = torch.randn(1, 2, 2), torch.randn(1, 2, 2)
    short = ProjectedStates([2], [2])([teacher], [student], ALL)
    padded = ProjectedStates([2], [2])(
        [torch.cat([teacher, junk], 1)], [torch.cat([student, -junk], 1)], mask
    )
    assert padded.item() == pytest.approx(short.item(), rel=1e-6)
    for loss in (RelationDivergence(1), MapError()):
        square = isinstance(loss, MapError)
        one, other = (torch.rand(1, 2, 2, 2) if square else torch.randn(1, 2, 4) for _ in range(2))
        room = (0, 1, 0, 1) if square else (0, 0, 0, 1)
        long = [torch.nn.functional.pad(each, room, value=7.0) for each in (one, other)]
        assert loss([long[0]], [long[1]], mask).item() == pytest.approx(
            loss([one], [other], ALL).item(), rel=1e-5
        )


def test_a_projection_begins_with_the_best_linear_map():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4, 30, 3, generator=generator)
    weight, bias = torch.randn(5, 3, generator=generator), torch.randn(5, generator=generator)
    teacher = student @ weight.T + bias
    mask = torch.ones(4, 30, dtype=torch.bool)
    loss = ProjectedStates([5], [3])
    before = loss([teacher], [student], mask).item()
    loss.fit([teacher], [student], mask)
    # The ridge of a thousandth of the mean square shrinks the map by about as much: an error of 1e-6.
    assert loss([teacher], [student], mask).item() < 1e-5 < before
    assert torch.allclose(loss.projections[0].weight, weight, atol=0.02)


def test_maps_worked_by_hand():
    # One head, two tokens. Rows differ by (½, −½) and nothing: (¼ + ¼) / (1 head · 2 tokens) = ¼.
    teacher = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
    student = torch.tensor([[[[0.5, 0.5], [0.5, 0.5]]]])
    assert MapError()([teacher], [student], ALL).item() == pytest.approx(0.25)


def test_relations_worked_by_hand():
    # One head of width 1. The teacher's values 0 and a: scores [[0, 0], [0, a²]]; a² = log 3 gives rows (½, ½) and
    # (¼, ¾). The student's values are 0: rows (½, ½). KL of the rows: 0 and ¼ log ½ + ¾ log 3/2; their mean.
    a = math.sqrt(math.log(3))
    teacher, student = torch.tensor([[[0.0], [a]]]), torch.zeros(1, 2, 1)
    expected = (0.25 * math.log(0.5) + 0.75 * math.log(1.5)) / 2
    assert RelationDivergence(1)([teacher], [student], ALL).item() == pytest.approx(expected, rel=1e-5)


def test_relations_compare_models_of_any_width_and_number_of_heads():
    vectors = torch.randn(2, 3, 8)
    mask = torch.ones(2, 3, dtype=torch.bool)
    # Each relation head is doubled, and scaled so that products over √(2 d) are those over √d.
    split = vectors.view(2, 3, 4, 2)
    wide = torch.cat([split, split], -1).flatten(2) / 2**0.25
    assert RelationDivergence(4)([wide], [vectors], mask).item() == pytest.approx(0, abs=1e-6)
    assert RelationDivergence(4)([wide], [torch.randn(2, 3, 8)], mask).item() > 1e-3


def test_cosine_worked_by_hand():
    # Angles of 0 and 90 degrees: 1 − (1 + 0) / 2.
    teacher, student = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert MeanCosine(2, 2)([teacher], [student], ALL).item() == pytest.approx(0.5)


def test_similarities_worked_by_hand():
    # Cosines of the teacher's pair 0, of the student's 1; the diagonal is 1 in both: two of four entries differ by 1.
    teacher, student = torch.eye(2), torch.ones(2, 5)
    assert similarity_error(student, teacher).item() == pytest.approx(0.5)
    # As a pair they are 1 apart besides.
    assert similarity_error(student, teacher, paired=True).item() == pytest.approx(1.5)
    # Two pairs, alike in themselves for both; for the student one with the other too: 8 of 16 entries differ.
    teacher, student = torch.eye(2).repeat_interleave(2, 0), torch.ones(4, 5)
    assert similarity_error(student, teacher, paired=True).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (ProjectedStates([4], [6]), (2, 3)),
        (RelationDivergence(2), (2, 3)),
        (MapError(), (2, 2, 3)),
        (MeanCosine(4, 6), (2,)),
    ],
)
def test_gradients_reach_student_and_projection_and_never_the_teacher(loss, shape):
    wide = 3 if isinstance(loss, MapError) else 4
    narrow = 3 if isinstance(loss, MapError) else 6
    teacher, student = (
        torch.rand(*shape, wide, requires_grad=True),
        torch.rand(*shape, narrow, requires_grad=True),
    )
    loss([teacher], [student], torch.ones(2, 3, dtype=torch.bool)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())


def test_layers_are_mapped_by_name_or_by_pairs():
    assert layer_pairs("uniform", 12, 4) == [(2, 0), (5, 1), (8, 2), (11, 3)], "g(m) = 3 m, from 1"
    assert layer_pairs("uniform", 6, 3) == [(1, 0), (3, 1), (5, 2)]
    assert layer_pairs("uniform", 2, 3) == [(0, 0), (0, 1), (1, 2)], "a student may be the deeper one"
    assert layer_pairs("last", 12, 4) == [(11, 3)]
    assert layer_pairs(((3, 0), (7, 1)), 8, 2) == [(3, 0), (7, 1)]
    with pytest.raises(InputError, match=r"\[8, 1\]: the teacher has layers 0 to 7, the student 0 to 1"):
        layer_pairs(((3, 0), (8, 1)), 8, 2)
    with pytest.raises(InputError, match="no pair at all"):
        layer_pairs((), 8, 2)


def test_each_objective_says_which_signals_it_compares():
    assert HiddenStates(layers="last").pairs(12, 3) == [Pair(Signal("hidden", 11), Signal("hidden", 2))]
    assert Embedding().pairs(12, 3) == [Pair(Signal("embedding"), Signal("embedding"))]
    assert AttentionMaps(layers=((4, 1),)).pairs(12, 3) == [
        Pair(Signal("attention", 4), Signal("attention", 1))
    ]
    assert [pair.teacher for pair in Relations(of=("key", "value")).pairs(12, 3)] == [
        Signal("key", 11),
        Signal("value", 11),
    ]
    assert SentenceCosine().pairs(12, 3) == [Pair(Signal("sentence", 11), Signal("sentence", 2))]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="the teacher has 12 heads, the student 4.*relations"):
        AttentionMaps().build([(1, 12, 5, 5)], [(1, 4, 5, 5)])
    with pytest.raises(InputError, match="5 relation heads do not divide a width of 12"):
        Relations(heads=5).build([(1, 5, 12)], [(1, 5, 20)])
    assert Relations().build([(1, 5, 768)], [(1, 5, 312)]).heads == 24


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "hiden"}, "hiden"),
        ({"objective": "hidden", "heads": 3}, "heads"),
        ({"objective": "hidden", "layers": "first"}, "layers"),
        ({"objective": "relations", "of": []}, "of"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Match).validate_python(wrong)


def test_schedules_are_straight_lines():
    assert [value_at((4.0, 1.0), progress) for progress in (0, 0.5, 1, 2)] == [4, 2.5, 1, 1]
    assert value_at(3.0, 0.7) == 3
