"""Layers that hurt fall back until the budget is kept; the best model is always returned, and saved."""

import itertools
import json
import math
import sys

import pytest
import torch
from tiny_data import tiny_data, write_reviews
from tiny_models import logits, tiny_artifact, tiny_batch, tiny_model

from compress.artifact import load, read_manifest, save
from compress.commands.app import main
from compress.layers import Int8Linear, StaticInt8Linear
from compress.passes.base import Context
from compress.passes.quantize import Quantize
from compress.quantization import quantizable, quantize_model
from compress.quantization.fallback import divergence, fall_back, sensitivities
from compress.quantization.ranges import mse
from compress.quantization.run import dynamic, static, within_budget
from compress.quantization.static import calibrate

LAYER = "bert.encoder.layer.0."
BAD = (f"{LAYER}output.dense", f"{LAYER}attention.self.value")


def harmful(model, keep):
    """Dynamic int8 with two layers that answer with weights far off, the first the more so."""
    quantize_model(model, keep=keep)
    for factor, name in zip((4, 2), BAD, strict=True):
        if name not in keep:
            model.get_submodule(name).scale *= factor


@pytest.fixture
def model():
    return tiny_model("bert", layers=1)


def closeness(model):
    """Points that fall with the distance of the answers to those of `model`."""
    expected = logits(model)
    return lambda candidate: -1000 * divergence(expected, logits(candidate), True)


def fallen(model, quantize=harmful, max_drop=1.0, time_limit=1e9):
    names = quantizable(model)
    return fall_back(model, quantize, names, [tiny_batch()], closeness(model), max_drop, time_limit)


def test_divergence_of_hand_computed_answers():
    # p = (1/2, 1/2) and q = (3/4, 1/4): ½ ln(2/3) + ½ ln 2.
    p, q = torch.zeros(3, 2), torch.tensor([[3.0, 1.0]]).log().expand(3, 2)
    assert divergence(p, q, True) == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert divergence(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]), False) == 2.0  # (0 + 4) / 2


def test_layers_that_hurt_most_are_found_and_fall_back(model):
    before = logits(model)
    outcome = fallen(model)
    assert outcome.met
    assert outcome.in_time
    assert next(iter(outcome.kept)) == BAD[0]
    assert list(outcome.kept.values()) == sorted(outcome.kept.values(), reverse=True)
    assert type(outcome.model.get_submodule(BAD[0])) is torch.nn.Linear
    assert outcome.drop == pytest.approx(-closeness(model)(outcome.model))
    assert torch.equal(logits(model), before)  # what came in is as it was
    assert not any(isinstance(module, Int8Linear) for module in model.modules())


def test_nothing_falls_back_where_the_budget_is_kept(model):
    outcome = fallen(model, max_drop=1e6)
    assert outcome.met
    assert (outcome.kept, outcome.tried) == ({}, 1)


def test_best_model_is_returned_where_no_candidate_is_good_enough(model):
    outcome = fallen(model, max_drop=0)
    assert not outcome.met
    assert outcome.in_time
    assert outcome.drop == pytest.approx(-closeness(model)(outcome.model))
    assert outcome.drop < -closeness(model)(fallen(model, max_drop=1e6).model)


def test_time_limit_ends_the_search_with_the_best_so_far(model, monkeypatch):
    assert fallen(model, time_limit=0).tried == 1
    assert not fallen(model, time_limit=0).in_time
    seconds = itertools.count()  # one passes at every look at the clock
    monkeypatch.setattr("compress.quantization.fallback.time.monotonic", lambda: next(seconds))
    names = quantizable(model)
    outcome = fallen(model, max_drop=0, time_limit=len(names) + 2)
    assert outcome.tried == 2  # all layers measured, and one number of them tried
    assert not outcome.in_time


def test_sensitivity_is_that_of_one_module_alone(model):
    quantized = tiny_model("bert", layers=1)
    harmful(quantized, ())
    found = sensitivities(model, quantized, quantizable(model), [tiny_batch()])
    assert sorted(found, key=lambda name: -found[name])[:2] == list(BAD)
    alone = tiny_model("bert", layers=1)
    alone.set_submodule(BAD[1], quantized.get_submodule(BAD[1]))
    assert found[BAD[1]] == pytest.approx(divergence(logits(model), logits(alone), True))


def test_static_falls_back_to_dynamic_and_then_dynamic_to_float(model):
    ranges = calibrate(model, [tiny_batch()], mse)
    ranges[BAD[0]] = (-1e3, 1e3)  # far too wide: everything is rounded to zero
    schemes = [static(ranges, True), dynamic(model, True)]
    score = closeness(model)
    outcome, notes = within_budget(model, schemes, [tiny_batch()], score, 1.0, 1e9)
    assert outcome.met
    assert list(outcome.kept)[0] == BAD[0]
    assert type(outcome.model.get_submodule(BAD[0])) is Int8Linear
    assert any(isinstance(module, StaticInt8Linear) for module in outcome.model.modules())
    assert "fell back to dynamic int8, as static int8 there moves the answer most" in notes[1]
    assert BAD[0] in notes[1]
    strict, notes = within_budget(model, schemes, [tiny_batch()], score, 1e-4, 1e9)
    assert any(note.startswith("dynamic int8: ") for note in notes)
    assert strict.drop < outcome.drop


def test_pass_keeps_the_budget_on_the_validation_split(tmp_path):
    context = Context(seed=0, workdir=tmp_path, data=tiny_data())
    artifact = Quantize(max_drop=100).apply(tiny_artifact(tiny_model("bert", layers=1)), context)
    assert any(isinstance(module, Int8Linear) for module in artifact.model.modules())
    assert context.notes[0].startswith("dynamic int8: ")
    assert "1 model tried" in context.notes[0]
    assert context.unmet == []


@pytest.mark.usefixtures("nothing_but_here")
def test_budget_that_is_not_met_exits_1_with_the_model_saved(tmp_path, monkeypatch, capsys):
    def score(artifact, data, title=""):
        int8 = any(isinstance(module, Int8Linear) for module in artifact.model.modules())
        return {"accuracy": 50.0 if int8 else 90.0}

    monkeypatch.setattr("compress.tasks.evaluate.evaluate", score)
    monkeypatch.setattr("compress.quantization.run.FALLBACK_BATCHES", 1)
    save(tiny_artifact(tiny_model("bert", layers=1)), tmp_path / "model")
    data = write_reviews(tmp_path / "reviews.csv")
    arguments = ["model", "--data", data, "--max-drop", "0.5", "--out", "int8", "--no-embeddings", "--json"]
    for again in (False, True):
        monkeypatch.setattr(sys, "argv", ["compress", "quantize", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert stop.value.code == 1
        assert "int8: 40.00 points lost on dev, max_drop is 0.5. The best model found is saved there" in err
        assert ("done before" in err) is again
        assert json.loads(out)["unmet"] == ["40.00 points lost on dev, max_drop is 0.5"]
    assert read_manifest(tmp_path / "int8").history[-1].unmet
    assert any(isinstance(module, Int8Linear) for module in load(tmp_path / "int8").model.modules())
