"""Static int8: ranges from histograms, layers that compute what ONNX Runtime computes of QDQ, files of them."""

import onnx
import onnxruntime
import pytest
import torch
from family_grid import artifact_of, batch_of, text_data
from onnx import TensorProto, helper, numpy_helper
from test_export import optimized_operators, sample_of
from test_int8 import runtime, uneven_low_rank_model
from tiny_data import tiny_data
from tiny_models import ZOO, assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model

from compress.errors import CompressError, InputError
from compress.exporting import export_onnx
from compress.exporting.graph import check_graph
from compress.exporting.traceable import traceable
from compress.layers import Int8Linear, StaticInt8Linear
from compress.passes.base import Context, ModelPlan
from compress.passes.quantize import Quantize
from compress.quantization import quantize_model, quantize_weight
from compress.quantization.histograms import Histogram, input_histograms
from compress.quantization.ranges import METHODS, entropy, minmax, mse, percentile, step_and_zero_point
from compress.quantization.static import calibrate, fix_ranges


def histogram_of(values, bins=8192):
    low, high = min(values.min().item(), 0.0), max(values.max().item(), 0.0)
    return Histogram(torch.histc(values.float(), bins, low, high).double(), low, high)


def static_model(family="bert", method=mse, **options):
    model = tiny_model(family, layers=2, **options)
    ranges = calibrate(model, [tiny_batch(), tiny_batch(1)], method)
    quantize_model(model)
    fix_ranges(model, ranges)
    return model


def test_step_and_zero_point_of_a_hand_computed_range():
    # 5.1 over 255 steps is 0.02 a step; 1.0 below zero is 50 of them.
    step, zero = step_and_zero_point(-1.0, 4.1)
    assert step.item() == pytest.approx(0.02)
    assert (zero.item(), zero.dtype) == (50, torch.uint8)
    assert [value.item() for value in step_and_zero_point(0.0, 0.0)] == [1.0, 0]


def test_minmax_and_percentile_of_even_counts():
    even = Histogram(torch.full((100,), 100.0).double(), -1.0, 1.0)
    assert minmax(even) == (-1.0, 1.0)
    # 2.5% go at each end: two of a hundred bins of 0.02 whole, the third not.
    assert percentile(even, share=0.95) == pytest.approx((-0.96, 0.96))
    positive = Histogram(torch.full((100,), 100.0).double(), 0.0, 1.0)
    assert percentile(positive, share=0.95)[0] == 0.0


def test_mse_weighs_rounding_against_clipping():
    # A million values even in [0, 10] and one of 100; up to 100 f costs 10^6 (100 f / 255)² / 12 for rounding and
    # (100 - 100 f)² for the outlier, 12,816 f² + 10,000 (1 - f)² in all, least at f = 0.438. Tried are 80ths.
    values = torch.cat([torch.linspace(0, 10, 1_000_000), torch.tensor([100.0])])
    low, high = mse(histogram_of(values))
    assert low == 0.0
    assert high == pytest.approx(100 * 35 / 80, abs=100 / 80 + 1e-9)


def test_entropy_keeps_an_even_range_whole_and_cuts_an_outlier():
    # Of even counts P and Q are the same at the full range alone: elsewhere P's last bin holds what is cut.
    assert entropy(Histogram(torch.ones(8192).double(), 0.0, 3.0)) == (0.0, 3.0)
    normal = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    low, high = entropy(histogram_of(torch.cat([normal, torch.tensor([60.0])])))
    assert 3 < high < 20
    assert low == max(-high, normal.min().item())


@pytest.mark.parametrize("method", METHODS.values())
def test_every_method_keeps_zero_inside_even_for_zeros_alone(method):
    for values in (torch.zeros(10), torch.linspace(2, 3, 1000), -torch.linspace(2, 3, 1000)):
        low, high = method(histogram_of(values))
        assert low <= 0 <= high


def test_padding_is_not_counted_and_batches_add_up():
    model = tiny_model("bert", layers=1)
    name = "bert.encoder.layer.0.attention.self.query"
    batch = tiny_batch()
    whole = input_histograms(model, [batch], [name])[name]
    assert whole.counts.sum() == batch["attention_mask"].sum() * 32
    rows = [
        {key: value[i : i + 1, : batch["attention_mask"][i].sum()] for key, value in batch.items()}
        for i in range(4)
    ]
    apart = input_histograms(model, rows, [name])[name]
    assert apart.counts.sum() == whole.counts.sum()
    assert (apart.low, apart.high) == pytest.approx((whole.low, whole.high), abs=1e-5)


def test_values_that_are_not_finite_are_refused_by_name():
    model = tiny_model("bert", layers=1)
    model.bert.encoder.layer[0].intermediate.dense.weight.data[3, 4] = torch.nan
    with pytest.raises(InputError, match=r"layer\.0\.output\.dense: it reads values that are not finite"):
        calibrate(model, [tiny_batch()], mse)


def test_codes_round_half_to_even_and_saturate():
    layer = StaticInt8Linear(5, 1, bias=False)
    layer.step, layer.zero_point = torch.tensor(0.5), torch.tensor(10, dtype=torch.uint8)
    codes, _, _ = layer.codes(torch.tensor([[0.25, 0.75, -0.25, 1e6, -1e6]]))
    # In steps: 0.5 to 0, 1.5 to 2, -0.5 to 0, and beyond the ends.
    assert codes.tolist() == [[10, 12, 10, 255, 0]]


def test_layer_is_onnx_runtimes_fused_qdq():
    torch.manual_seed(0)
    layer = StaticInt8Linear(600, 48, bias=True)
    layer.weight, layer.scale = quantize_weight(torch.randn(48, 600))
    layer.bias = torch.randn(48)
    layer.step, layer.zero_point = step_and_zero_point(-2.0, 3.0)  # normal values go beyond both
    tensors = {
        "weight": layer.weight.t().contiguous(),
        "zeros": torch.zeros(48, dtype=torch.int8),
        **{name: getattr(layer, name) for name in ("scale", "bias", "step", "zero_point")},
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero_point"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step", "zero_point"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zeros"], ["dense"], axis=1),
        helper.make_node("MatMul", ["rounded", "dense"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    session = runtime(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", "length", 600])],
        [("y", TensorProto.FLOAT, ["batch", "length", 48])],
        [numpy_helper.from_array(value.numpy(), name) for name, value in tensors.items()],
    )
    for shape in ((1, 1, 600), (2, 9, 600)):
        x = torch.randn(shape)
        (got,) = session.run(None, {"x": x.numpy()})
        # The sums are exact on both sides; what is left is the last bit of a float32 near 100.
        assert torch.allclose(layer(x), torch.from_numpy(got), rtol=1e-6, atol=2e-5)


def test_layers_that_read_one_tensor_share_a_range_and_others_stay_dynamic():
    model = tiny_model("bert", layers=1)
    ranges = calibrate(model, [tiny_batch()], mse)
    del ranges["bert.encoder.layer.0.output.dense"]
    quantize_model(model)
    assert set(fix_ranges(model, ranges)) == set(ranges)
    attention = model.bert.encoder.layer[0].attention.self
    steps = {(m.step.item(), m.zero_point.item()) for m in (attention.query, attention.key, attention.value)}
    assert len(steps) == 1
    assert type(model.bert.encoder.layer[0].output.dense) is Int8Linear


@pytest.mark.parametrize("family", ZOO)
def test_every_family_reloads_bit_for_bit(family, tmp_path):
    artifact = artifact_of(family)
    dense = logits(artifact.model, batch_of(artifact))
    context = Context(seed=0, workdir=tmp_path, data=text_data())
    artifact = Quantize(scheme="static").apply(artifact, context)
    assert any(isinstance(module, StaticInt8Linear) for module in artifact.model.modules())
    difference = logits(artifact.model, batch_of(artifact)) - dense
    assert 0 < difference.abs().max() < 0.2 * dense.abs().max()
    assert_reloads(artifact, tmp_path / "model", batch_of(artifact))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert", "albert"])
def test_file_has_integer_products_and_torchs_answers(family, tmp_path):
    model = static_model(family)
    notes: list[str] = []
    path = export_onnx(tiny_artifact(model), tmp_path, notes)
    layers = sum(isinstance(module, StaticInt8Linear) for module in model.modules())
    assert path.name == "model_quantized.onnx"
    assert f"all {layers} int8 layers are integer products" in notes[1]
    runs = 2 if family == "albert" else 1  # its two layers are one
    outside = layers - 6 if family == "albert" else 0
    products = (layers - outside) * runs + outside
    assert optimized_operators(path, tmp_path)["MatMulIntegerToFloat"] == products
    session = onnxruntime.InferenceSession(path)
    (got,) = session.run(None, {name: value.numpy() for name, value in tiny_batch(2).items()})
    expected = logits(model, tiny_batch(2))
    assert torch.allclose(torch.from_numpy(got), expected, atol=1e-4 * expected.abs().max())


def test_mixed_model_is_checked_and_q_k_v_share_a_rounding(tmp_path):
    model = uneven_low_rank_model()
    ranges = calibrate(model, [tiny_batch()], mse)
    del ranges["bert.encoder.layer.1.output.dense"]
    quantize_model(model)
    fix_ranges(model, ranges)
    artifact, notes = tiny_artifact(model), []
    path = export_onnx(artifact, tmp_path, notes)
    assert "all 14 int8 layers are integer products, 14 in all, on 10 quantized inputs" in notes[1]
    graph = onnx.load(path)
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
            break
    onnx.save(graph, tmp_path / path.name)
    with pytest.raises(CompressError, match="int8 products for 13 uses of int8 layers"):
        check_graph(tmp_path / path.name, traceable(artifact.model), sample_of(artifact))


def test_pass_says_what_it_did_and_refuses_without_data(tmp_path):
    context = Context(seed=0, workdir=tmp_path, data=tiny_data())
    step = Quantize.model_validate({"pass": "quantize", "scheme": "static", "smooth": 0.5})
    step.apply(tiny_artifact(tiny_model("bert", layers=1)), context)
    assert context.notes[0] == "smoothed (alpha 0.5), folded into what comes before: 1 × value"
    assert context.notes[1].startswith("no norm could be smoothed")
    # Seven linear layers and three tables.
    assert context.notes[2].startswith("int8: 10 matrices, 7 of them static; ")
    plan = ModelPlan(None, None, None, place="passes[0] (quantize)")
    Quantize(scheme="static", smooth=0.5, max_drop=0.5).check(plan)
    assert [error.split(". ")[0] for error in plan.errors] == [
        "passes[0] (quantize): scheme static needs data",
        "passes[0] (quantize): smooth needs data",
        "passes[0] (quantize): max_drop needs data and a model with a trained head",
    ]


def test_too_few_texts_and_ids_beyond_the_table_are_refused(tmp_path):
    context = Context(seed=0, workdir=tmp_path, data=tiny_data())
    with pytest.raises(InputError, match="8 texts are too few to calibrate on. Give at least 16"):
        Quantize(scheme="static", samples=8).apply(tiny_artifact(tiny_model("bert")), context)
    model = tiny_model("bert")
    model.resize_token_embeddings(10)
    with pytest.raises(InputError, match="the tokenizer gives id .*, but the model has 10 embeddings"):
        Quantize(scheme="static").apply(tiny_artifact(model), context)
