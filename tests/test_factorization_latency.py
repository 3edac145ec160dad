"""What a rank costs in time: the table, the variants it is measured with, ranks within a budget of time."""

from dataclasses import replace

import pytest
import torch
from tiny_data import tiny_data
from tiny_models import assert_reloads, tiny_artifact, tiny_model

from compress.architectures import blocks
from compress.errors import CompressError, InputError
from compress.factorization.latency import LinearLatency, measure_latency, sizes_of, variants
from compress.factorization.linears import Size, linears_of
from compress.factorization.ranks import Matrix, spread_time
from compress.factorization.run import split
from compress.latency import timing
from compress.passes.base import Context
from compress.passes.factorize import Factorize
from compress.pruning.latency import measure_latency as measure_units

TABLE = LinearLatency(whole=1000.0, lower=800.0, upper=1000.0, rest=10.0)


def milliseconds(model):
    """A machine where 1,000 weights take 1 ms whole, pairs 0.8 up to half and 1 beyond; a layer 0.5, the rest 2."""
    total = 2 + 0.5 * len(blocks(model))
    for size in sizes_of(model):
        half = size.dense_weights / 2
        saved = 0.2 * min(size.weights, half) if size.rank is not None else 0
        total += (size.weights - saved) / 1000
    return total


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Run variants on that machine; returns the times it took, once it ran them."""
    took = []

    def export(artifact, folder):
        took.append(milliseconds(artifact.model))
        return folder

    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timing, "export_onnx", export)
    monkeypatch.setattr(timing, "time_files", lambda files, *_: took[-len(files) :])
    return took


def pair_up(model, ranks):
    """Split the first layers at these ranks."""
    for name, rank in zip(linears_of(model), ranks, strict=False):
        model.set_submodule(name, split(model.get_submodule(name), rank))


def test_a_pair_costs_by_its_weights_at_one_rate_up_to_half_and_another_beyond():
    assert TABLE.cost(Size(32, 32)) == pytest.approx(1.024)
    assert TABLE.cost(Size(32, 32, 4)) == pytest.approx(0.8 * 0.256)  # 4 * (32 + 32) weights
    assert TABLE.cost(Size(32, 32, 12)) == pytest.approx(0.8 * 0.512 + 0.256)  # 768, of which 512 are half
    assert TABLE.cost(Size(32, 64, 20)) == pytest.approx(
        0.8 * 1.024 + 0.896
    )  # 1920: pruned since it was split


def test_a_layer_computed_for_one_token_takes_its_share():
    assert replace(TABLE, last=0.25).cost(Size(32, 32, one_token=True)) == pytest.approx(1.024 / 4)
    assert replace(TABLE, last=0.25).cost(Size(32, 32)) == pytest.approx(1.024)


def test_of_the_last_layer_keys_and_values_are_needed_for_all_tokens():
    model = tiny_model("bert", layers=2)
    whole = [
        name for name, size in zip(linears_of(model), sizes_of(model), strict=True) if not size.one_token
    ]
    last = [name.rpartition(".")[2] for name in whole if ".layer.1." in name]
    assert (len(whole), last) == (6 + 2, ["key", "value"])


def test_the_total_is_the_rest_and_every_layer_as_it_is_now():
    model = tiny_model("bert", layers=1)  # 4 * 32 * 32 + 2 * 32 * 64 weights
    assert TABLE.total(model) == pytest.approx(10 + 8.192)
    pair_up(model, [4])
    assert TABLE.total(model) == pytest.approx(10 + 8.192 - 0.8 * 1.024)


@pytest.mark.parametrize("name", ["whole", "lower", "upper", "rest"])
def test_a_negative_table_is_refused(name):
    with pytest.raises(ValueError, match="must not be negative"):
        replace(TABLE, **{name: -1.0})


def test_variants_are_the_whole_model_its_half_and_two_layers_at_each_share():
    model = tiny_model("bert", layers=4)
    made = [make() for make in variants(model)]
    assert [len(blocks(one)) for one in made] == [4, 4, 2, 2, 2, 2]
    # 1/16, 1/2 and all of 32 * 32 / 64, and of 32 * 64 / 96, rounded as every uniform rank is.
    assert [sizes_of(one)[0].rank for one in made] == [None, 8, None, 1, 8, 16]
    assert [sizes_of(one)[-1].rank for one in made] == [None, 10, None, 1, 10, 16]
    assert sizes_of(model)[0].rank is None


@pytest.mark.parametrize("family", ["bert", "albert", "t5", "llama", "gpt2"])
def test_costs_that_add_up_are_found_exactly(machine, family):
    model = tiny_model(family, layers=3)
    table = measure_latency(tiny_artifact(model), 1, 16)
    assert table.total(model) == pytest.approx(milliseconds(model))
    if family != "gpt2":  # whose layers are not `nn.Linear` before the pass makes them so
        pair_up(model, [1, 5, 12, 3, 14])
        assert table.total(model) == pytest.approx(milliseconds(model))


def test_costs_of_a_model_that_was_split_before_are_found(machine):
    model = tiny_model("bert", layers=3)
    pair_up(model, [8] * 10)
    table = measure_latency(tiny_artifact(model), 1, 16)
    assert table.total(model) == pytest.approx(milliseconds(model))
    pair_up(model := tiny_model("bert", layers=3), [4] * 18)
    assert table.total(model) == pytest.approx(milliseconds(model))


def test_a_table_is_measured_once_and_apart_from_that_of_pruning(machine):
    artifact = tiny_artifact(tiny_model("bert", seed=0))
    random = torch.random.get_rng_state()
    table = measure_latency(artifact, 1, 16)
    assert torch.equal(torch.random.get_rng_state(), random), "what follows is as with a cached table"
    measured = len(machine)
    assert measure_latency(tiny_artifact(tiny_model("bert", seed=1)), 1, 16) == table
    assert len(machine) == measured  # other weights, same sizes
    measure_latency(tiny_artifact(tiny_model("bert")), 1, 8)
    assert len(machine) == 2 * measured
    measure_units(tiny_artifact(tiny_model("bert")), 1, 16)
    assert len(machine) > 2 * measured


def test_a_model_without_an_export_is_refused_with_what_works(nothing_but_here, monkeypatch):
    def refuse(artifact, folder):
        raise CompressError("the model cannot be traced to ONNX (a loop)", place="bert")

    monkeypatch.setattr(timing, "export_onnx", refuse)
    with pytest.raises(InputError, match=r"bert: its layers cannot be timed.*a loop.*Give keep"):
        measure_latency(tiny_artifact(tiny_model("bert")), 1, 16)


def test_files_are_exported_and_timed(nothing_but_here, monkeypatch):
    monkeypatch.setattr(timing, "_ROUNDS", 5)
    model = tiny_model("bert", layers=2)
    table = measure_latency(tiny_artifact(model), 2, 16)
    assert table.total(model) > 0


def cost(size):
    """10 ms whole, 2 and half the rank as a pair."""
    return 10.0 if size.rank is None else 2 + size.rank / 2


STEEP, EVEN = torch.zeros(33), torch.arange(33.0).flip(0)
STEEP[0] = 50


def test_time_goes_where_it_is_worth_most():
    matrices = {"thin": Matrix(32, 32, STEEP), "needed": Matrix(32, 32, EVEN)}
    # 4 + 2 * 10 = 24 ms; 16 allowed, 12 for both: rank 1 takes 2.5, and 9.5 is what rank 15 takes.
    assert spread_time(matrices, cost, 1.5, 4, "here") == {"thin": 1, "needed": 15}
    # 24 / 1.25 = 19.2, 15.2 for both: with 12.7 left the other can stay.
    assert spread_time(matrices, cost, 1.25, 4, "here") == {"thin": 1, "needed": None}


def test_a_matrix_that_no_rank_makes_faster_stays_even_where_splitting_costs_no_error():
    def wide_only(size):
        return cost(size) + (20 if size.rank is not None and size.in_features == 32 else 0)

    matrices = {"slow": Matrix(32, 32, STEEP), "fast": Matrix(33, 33, torch.arange(34.0).flip(0))}
    assert spread_time(matrices, wide_only, 1.2, 4, "here") == {"slow": None, "fast": 8}  # 24 / 1.2 - 14 = 6


def test_a_pair_is_offered_ranks_that_are_faster_than_its_own():
    pair = {"pair": Matrix(32, 32, EVEN, present=12)}  # 8 ms, and 2 beside it
    assert spread_time(pair, cost, 1.25, 2, "here") == {"pair": 8}  # 10 / 1.25 - 2 = 6


def test_a_speed_up_that_cannot_be_met_is_refused_with_the_most_that_can():
    matrices = {"a": Matrix(32, 32, EVEN), "b": Matrix(32, 32, EVEN)}
    message = "here: the speed-up cannot be met: .* takes 9 ms of the 8 ms allowed. At most 2.66 times"
    with pytest.raises(InputError, match=message):  # 24 ms, and at rank 1 4 + 2 * 2.5
        spread_time(matrices, cost, 3, 4, "here")
    assert spread_time(matrices, cost, 2.66, 4, "here") == {"a": 1, "b": 1}


def test_layers_that_never_get_faster_are_refused():
    with pytest.raises(InputError, match=r"no layer gets faster at any rank .* Give keep"):
        spread_time({"a": Matrix(32, 32, EVEN)}, lambda size: 1.0, 1.5, 4, "here")


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_pass_meets_the_speed_up_and_says_so(machine, family, tmp_path):
    before = milliseconds(tiny_model(family))
    running = Context(seed=0, workdir=tmp_path, data=tiny_data())
    step = Factorize(target_speedup=1.5, sequence_length=16, samples=16)
    artifact = step.apply(tiny_artifact(tiny_model(family)), running)
    assert 1.5 <= before / milliseconds(artifact.model) < 1.55
    assert any(note.startswith("expected speed-up in ONNX Runtime, 1 × 16: 1.5") for note in running.notes)
    assert_reloads(artifact, tmp_path / "model")


def test_the_pass_refuses_a_speed_up_beyond_reach(machine, tmp_path):
    running = Context(seed=0, workdir=tmp_path, data=tiny_data())
    with pytest.raises(InputError, match=r"factorize: the speed-up cannot be met: .* At most \d") as error:
        Factorize(target_speedup=50, sequence_length=16, samples=16).apply(
            tiny_artifact(tiny_model("bert")), running
        )
    assert error.value.place == "factorize"
