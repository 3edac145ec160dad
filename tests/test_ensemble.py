"""Several teachers speak as their mean."""

import pytest
import torch

from compress.distillation.ensemble import Ensemble, Mean, weights_of


def test_several_teachers_speak_as_their_mean():
    one, other = [torch.tensor([1.0, 3.0])], [torch.tensor([4.0, 0.0])]
    # The second keeps its labels the other way round: (0, 4). ¾ (1, 3) + ¼ (0, 4).
    both = Ensemble([one, other], Mean([[0, 1], [1, 0]], [0.75, 0.25]))
    assert both[0].tolist() == [0.75, 3.25]
    # Odds 9 and 1 of being right.
    assert weights_of([0.9, 0.5]) == pytest.approx([0.9, 0.1])


def test_vectors_of_several_teachers_have_the_mean_of_their_cosines():
    one, other = (torch.nn.functional.normalize(torch.randn(5, width), dim=-1) for width in (3, 7))
    both = Mean([slice(None)] * 2, [0.75, 0.25], vectors=True)([one, other])
    torch.testing.assert_close(both @ both.T, 0.75 * one @ one.T + 0.25 * other @ other.T)


def test_tokens_count_that_all_teachers_answer():
    silent = [float("nan")] * 2
    one, other = torch.tensor([[1.0, 3.0], silent]), torch.tensor([[4.0, 0.0], [2.0, 2.0]])
    both = Ensemble([[one, one[:1]], [other, other[:1]]], Mean([slice(None)] * 2, [0.5, 0.5]), "left")
    expected = torch.tensor([[[2.5, 1.5], silent], [silent, [2.5, 1.5]]])
    torch.testing.assert_close(both.stack([both[0], both[1]]), expected, equal_nan=True)
