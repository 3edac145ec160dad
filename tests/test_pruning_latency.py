"""What layers cost in time: the table, the variants it is measured with, the cache."""

from dataclasses import replace

import pytest
from tiny_models import tiny_artifact, tiny_model

from compress.architectures import blocks
from compress.errors import CompressError, InputError
from compress.latency import timing
from compress.latency.one_token import reads_one_token
from compress.pruning.latency import LatencyTable, measure_latency
from compress.pruning.latency_grid import Sizes, fit, grid, variants
from compress.pruning.surgery import keep_heads, keep_neurons

TABLE = LatencyTable(((0, 1.0), (2, 2.0), (4, 2.5)), ((0, 0.0), (16, 1.0), (64, 4.0)), rest=10.0)


def parts(model, layer=0):
    block = blocks(model)[layer]
    return block.attentions[0], block.feed_forwards[0]


def milliseconds(size):
    """A machine where an attention takes 0.5 + 0.25 a head, 64 neurons 3.2 and all else 2."""
    heads = sum(0.5 + 0.25 * units for units in size.attention)
    return 2 + heads + sum(0.05 * units for units in size.feed_forward)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Run variants on that machine; returns the sizes it was asked for, once they were."""
    asked = []

    def export(artifact, folder):
        asked.append(Sizes.of(artifact.model))
        return folder

    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timing, "export_onnx", export)
    monkeypatch.setattr(
        timing, "time_files", lambda files, *_: [milliseconds(size) for size in asked[-len(files) :]]
    )
    return asked


def test_costs_are_linear_between_points_and_constant_outside():
    model = tiny_model("bert")
    (attention, feed_forward), cost = parts(model), TABLE.costs(model)
    assert [cost(attention, units) for units in (1, 2, 3, 4, 9)] == [1.5, 2.0, 2.25, 2.5, 2.5]
    assert [cost(feed_forward, units) for units in (8, 40, 64)] == [0.5, 2.5, 4.0]


def test_of_a_last_layer_done_for_one_token_keys_and_values_still_cost():
    model = tiny_model("bert", layers=2)
    cost = replace(TABLE, last=0.2).costs(model)
    assert [cost(part, part.units) for part in parts(model, 0)] == [2.5, 4.0]
    assert [cost(part, part.units) for part in parts(model, 1)] == [2.5 * (1 + 0.2) / 2, 4.0 * 0.2]


def test_costs_never_fall_with_more_units():
    model = tiny_model("bert")
    for part, most in zip(parts(model), (5, 70), strict=True):
        costs = [TABLE.costs(model)(part, units) for units in range(1, most)]
        assert costs == sorted(costs)


def test_the_total_is_the_rest_and_every_part_as_it_is_now():
    model = tiny_model("bert", layers=2)
    assert TABLE.total(model) == 10 + 2 * (2.5 + 4)
    keep_heads(model, parts(model, 0)[0], [1, 3])
    keep_neurons(model, parts(model, 1)[1], range(16))
    assert TABLE.total(model) == 10 + (2 + 4) + (2.5 + 1)


@pytest.mark.parametrize(
    ("attention", "rest"),
    [
        ((), 1.0),
        (((4, 1.0), (2, 2.0)), 1.0),
        (((2, 2.0), (4, 1.0)), 1.0),
        (((2, -1.0),), 1.0),
        (((2, 1.0),), -1.0),
    ],
)
def test_a_table_that_falls_or_is_negative_is_refused(attention, rest):
    with pytest.raises(ValueError, match="units must rise"):
        LatencyTable(attention, ((64, 1.0),), rest)


def test_the_grid_goes_from_one_head_and_a_sixteenth_of_the_neurons_to_all():
    assert grid(tiny_model("bert")) == Sizes((1, 2, 4), (8, 32, 64))  # 64 / 16 is less than 8


def test_variants_are_the_whole_model_its_half_and_two_layers_at_each_level():
    model = tiny_model("bert", layers=4)
    sizes = [Sizes.of(make()) for make in variants(model, grid(model))]
    assert sizes == [
        Sizes((4,) * 4, (64,) * 4),
        Sizes((2,) * 4, (32,) * 4),
        *(Sizes((heads,) * 2, (64,) * 2) for heads in (1, 2, 4)),
        *(Sizes((4,) * 2, (neurons,) * 2) for neurons in (8, 32)),
    ]
    assert Sizes.of(model) == sizes[0]


def test_a_model_of_two_layers_is_timed_whole():
    model = tiny_model("bert", layers=2)
    sizes = [Sizes.of(make()) for make in variants(model, grid(model))]
    assert len(sizes) == 6
    assert set(map(len, [size.attention for size in sizes])) == {2}


def test_of_a_pruned_model_the_widest_layers_are_timed():
    model = tiny_model("bert", layers=4)
    keep_neurons(model, parts(model, 0)[1], range(8))
    keep_heads(model, parts(model, 2)[0], [0])
    _, _, cut, *_ = (Sizes.of(make()) for make in variants(model, grid(model)))
    assert cut == Sizes((1, 1), (64, 64))
    sizes = [Sizes.of(make()) for make in variants(model, grid(model))]
    assert Sizes((4, 4), (64, 64)) in sizes


def test_a_long_embedding_is_shortened_unless_a_special_token_would_go(monkeypatch):
    monkeypatch.setattr(timing, "_ROWS", 8)
    bert, gpt2 = tiny_model("bert"), tiny_model("gpt2")
    gpt2.config.pad_token_id = 19
    rows = [variants(model, grid(model))[0]().get_input_embeddings().num_embeddings for model in (bert, gpt2)]
    assert rows == [8, 20]
    assert bert.get_input_embeddings().num_embeddings == 20


def test_costs_that_add_up_are_found_exactly(machine):
    model = tiny_model("bert", layers=4)
    table = measure_latency(tiny_artifact(model), 1, 16)
    attention, feed_forward = parts(model)
    assert table.rest == pytest.approx(2)
    assert table.last == 1  # the likeliest of shares that fit alike
    assert table.costs(model)(attention, 3) == pytest.approx(0.5 + 0.75)
    assert table.costs(model)(feed_forward, 40) == pytest.approx(2.0)
    keep_heads(model, attention, [0])
    keep_neurons(model, parts(model, 3)[1], range(24))
    assert table.total(model) == pytest.approx(milliseconds(Sizes.of(model)))


def test_what_one_token_of_the_last_layer_costs_is_found(machine, monkeypatch):
    def lighter(size):
        """On that machine, but the last attention takes 0.65 and the last feed-forward part 0.3 of its time."""
        attention, feed_forward = 0.5 + 0.25 * size.attention[-1], 0.05 * size.feed_forward[-1]
        return milliseconds(size) - 0.35 * attention - 0.7 * feed_forward

    monkeypatch.setattr(
        timing, "time_files", lambda files, *_: [lighter(size) for size in machine[-len(files) :]]
    )
    model = tiny_model("bert", layers=4)
    table = measure_latency(tiny_artifact(model), 1, 16)
    assert table.last == pytest.approx(0.3)
    keep_neurons(model, parts(model, 3)[1], range(24))
    assert table.total(model) == pytest.approx(lighter(Sizes.of(model)))


@pytest.mark.parametrize(
    ("family", "one"),
    [("bert", True), ("distilbert", True), ("mpnet", True), ("gpt2", False), ("llama", False), ("t5", False)],
)
def test_the_answers_gradient_tells_whether_it_reads_one_token_of_the_last_layer(family, one):
    assert reads_one_token(tiny_artifact(tiny_model(family, layers=2))) is one


def test_hidden_states_and_a_lone_layer_are_read_whole():
    artifact = tiny_artifact(tiny_model("bert", layers=2))
    assert not reads_one_token(artifact.evolve(model=artifact.model.base_model))
    assert not reads_one_token(tiny_artifact(tiny_model("bert", layers=1)))


@pytest.mark.parametrize("family", ["albert", "t5", "llama", "distilbert"])
def test_totals_are_right_in_families_with_other_layers(machine, family):
    model = tiny_model(family, layers=3)
    table = measure_latency(tiny_artifact(model), 1, 16)
    assert table.total(model) == pytest.approx(milliseconds(Sizes.of(model)))
    for attention in blocks(model)[-1].attentions:
        if not attention.obstacle:
            keep_heads(model, attention, [0])
    assert table.total(model) == pytest.approx(milliseconds(Sizes.of(model)))


def test_noise_that_would_make_a_larger_layer_cheaper_is_smoothed_out():
    levels = Sizes((1, 2, 4), (64,))
    sizes = [Sizes((units, units), (64, 64)) for units in (1, 2, 4)]
    table = LatencyTable(*fit(sizes, [4.0, 5.0, 4.8], levels))  # which checks it
    assert table.attention[-1] == (4, table.attention[-2][1])


def test_a_table_is_measured_once_for_a_size_shape_and_machine(machine, monkeypatch):
    artifact = tiny_artifact(tiny_model("bert", seed=0))
    table = measure_latency(artifact, 1, 16)
    measured = len(machine)
    assert measure_latency(artifact, 1, 16) == table
    assert measure_latency(tiny_artifact(tiny_model("bert", seed=1)), 1, 16) == table
    assert len(machine) == measured  # other weights, same sizes
    for other in ((2, 16, 1), (1, 8, 1), (1, 16, 2)):
        measure_latency(artifact, *other)
    assert len(machine) == 4 * measured
    keep_neurons(artifact.model, parts(artifact.model)[1], range(32))
    measure_latency(artifact, 1, 16)
    assert len(machine) == 5 * measured


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"attention": [[2, 1.0]]}', b'{"attention": [[4, 2], [2, 1]]']
)
def test_a_damaged_table_is_measured_anew(machine, tmp_path, damage):
    artifact = tiny_artifact(tiny_model("bert"))
    table = measure_latency(artifact, 1, 16)
    (file,) = (tmp_path / "cache" / "latency").iterdir()
    whole, measured = file.read_bytes(), len(machine)
    file.write_bytes(damage)
    assert measure_latency(artifact, 1, 16) == table
    assert len(machine) == 2 * measured
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_no_result(machine, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file in the way")
    assert measure_latency(tiny_artifact(tiny_model("bert")), 1, 16).rest == pytest.approx(2)
    assert "not cached" in capsys.readouterr().err


def test_a_model_without_an_export_is_refused_with_what_works(nothing_but_here, monkeypatch):
    def refuse(artifact, folder):
        raise CompressError("the model cannot be traced to ONNX (a loop)", place="bert")

    monkeypatch.setattr(timing, "export_onnx", refuse)
    with pytest.raises(
        InputError, match=r"bert: its layers cannot be timed.*a loop.*shares of heads"
    ) as error:
        measure_latency(tiny_artifact(tiny_model("bert")), 1, 16)
    assert error.value.place == "bert"


def test_more_tokens_than_positions_are_refused(nothing_but_here):
    with pytest.raises(InputError, match="40 positions, so 41 tokens"):
        measure_latency(tiny_artifact(tiny_model("bert")), 1, 41)


def test_files_are_exported_and_timed(nothing_but_here, monkeypatch):
    monkeypatch.setattr(timing, "_ROUNDS", 5)
    model = tiny_model("bert", layers=2)
    for layer in range(2):
        keep_heads(model, parts(model, layer)[0], [0])
        keep_neurons(model, parts(model, layer)[1], range(8))
    table = measure_latency(tiny_artifact(model), 2, 16)
    assert [[units for units, _ in points] for points in (table.attention, table.feed_forward)] == [[1], [8]]
    assert table.total(model) > 0
    assert measure_latency(tiny_artifact(model), 2, 16) == table
