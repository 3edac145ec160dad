"""Weights in 4- or 8-bit blocks: rounding, what makes up for it, reload, and the ONNX file."""

from pathlib import Path

import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from test_export import altered, sample_of
from test_int8 import uneven_low_rank_model
from tiny_data import tiny_data
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model, tiny_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from compress.artifact import Artifact, load, read_config, save
from compress.errors import CompressError, InputError
from compress.exporting.export import export_onnx
from compress.exporting.graph import check_graph
from compress.exporting.traceable import traceable
from compress.layers import WeightOnlyLinear
from compress.layers.weight_only import pack, unpack
from compress.manifest import Manifest, PassRecord
from compress.passes.base import Context, ModelPlan
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.quantization import quantize_weights
from compress.quantization.blocks import fit_grid, nearest, round_to_nearest
from compress.quantization.compensation import output_error, round_compensated
from compress.reload import is_quantized

BITS = (4, 8)


def random_weight(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    return weight * torch.logspace(-3, 3, rows)[:, None] + 0.3 * weight.abs()


def correlated_inputs(tokens, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(tokens, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return mixed.double()


def test_all_sixteen_codes_survive_packing():
    codes = torch.arange(16, dtype=torch.uint8)
    packed = pack(codes, 4)
    # The earlier code is the low half: 0 and 1 are 0x10.
    assert packed.tolist() == [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]
    assert torch.equal(unpack(packed, 4), codes)
    pairs = torch.cartesian_prod(codes, codes)
    assert torch.equal(unpack(pack(pairs, 4), 4), pairs)
    assert torch.equal(unpack(pack(codes[:7], 4), 4)[:7], codes[:7])
    assert pack(codes[:7], 4).tolist() == [0x10, 0x32, 0x54, 0x06]
    assert torch.equal(pack(codes, 8), codes)


@pytest.mark.parametrize("bits", BITS)
def test_squared_error_is_at_most_that_of_half_a_step_of_the_whole_range(bits):
    weight = random_weight(40, 96)
    rounded = round_to_nearest(weight, bits, 32)
    blocks = weight.view(40, 3, 32).double()
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    step = (high - low) / (2**bits - 1)
    error = (rounded.dequantize().double().view(40, 3, 32) - blocks).square().sum(-1)
    # 32 weights, each off by half a step at most; float32 adds 2^-24 of the range, far below 1% of a step.
    assert (error <= 32 * (1.01 * step / 2) ** 2).all()
    assert error.sum() < 0.5 * (32 * step**2 / 4).sum(), "evenly spread errors alone are a third of that"


@pytest.mark.parametrize("bits", BITS)
def test_a_grid_over_the_whole_range_is_off_by_half_a_step_at_most(bits):
    blocks = random_weight(40, 32)
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    zero_point = (-low / scale).round()
    codes = nearest(blocks, scale, zero_point, bits)
    error = ((codes - zero_point[:, None]) * scale[:, None] - blocks).abs()
    assert (error <= scale[:, None] * 0.501).all()


def test_weights_on_a_grid_are_kept_exactly():
    # Codes 0 to 15 about zero point 5 with a step of a quarter; the blocks' own range gives that grid back.
    weight = ((torch.arange(16.0) - 5) / 4).repeat(3, 2)
    rounded = round_to_nearest(weight, 4, 16)
    assert rounded.codes[0, 0].tolist() == list(range(16))
    assert rounded.zero_point.unique().tolist() == [5]
    assert torch.equal(rounded.dequantize(), weight)


def test_the_fitted_scale_is_the_least_squares_one():
    # Weights 1, -1 and 0.4 at 4 bits: the range gives a step of 2/15 and zero point 8 (7.5 to even).
    blocks = torch.tensor([[1.0, -1.0, 0.4]])
    scale, zero_point = fit_grid(blocks, 4)
    steps = nearest(blocks, scale, zero_point, 4) - zero_point[:, None]
    assert scale.item() == pytest.approx(((blocks * steps).sum() / steps.square().sum()).item())


def test_blocks_of_zeros_and_a_last_block_that_is_not_full():
    weight = random_weight(6, 50)
    weight[2], weight[3, :16] = 0, 0
    rounded = round_to_nearest(weight, 4, 16)
    assert rounded.codes.shape == (6, 4, 16)
    assert rounded.dequantize().shape == (6, 50)
    assert torch.equal(rounded.dequantize()[2], torch.zeros(50))
    assert torch.equal(rounded.dequantize()[3, :16], torch.zeros(16))
    assert torch.equal(rounded.codes[:, 3, 2:], rounded.zero_point[:, 3, None].expand(6, 14))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("columns", [64, 50])
def test_compensated_rows_err_no_more_than_nearest_ones(bits, columns):
    weight, x = random_weight(30, columns), correlated_inputs(200, columns)
    gram = x.T @ x / len(x)
    plain = round_to_nearest(weight, bits, 16)
    solved = round_compensated(weight, gram, bits, 16)
    before, after = output_error(weight, plain, gram), output_error(weight, solved, gram)
    assert (after <= before).all()
    assert after.sum() < 0.7 * before.sum(), "and clearly less, as inputs go together"


def test_output_error_is_the_outputs_mean_squared_error():
    weight, x = random_weight(5, 32), correlated_inputs(100, 32)
    rounded = round_to_nearest(weight, 4, 16)
    lost = x @ (weight - rounded.dequantize()).double().T
    torch.testing.assert_close(output_error(weight, rounded, x.T @ x / 100), lost.square().mean(0))


def test_second_weight_makes_up_for_the_first_as_solved_by_hand():
    # Inputs x₂ = x₁, so G = [[1, 1], [1, 1]]: only w₁ + w₂ counts. In a block with 15 and 0 the step is 1, and 2.4
    # and 5.4 round to 2 and 5, off by 0.8 in the sum. The first's error 0.4 moves the second to 5.8 less what the
    # damping of 1% holds back: 0.4 · 1 / 1.01 = 0.396. It rounds to 6, and the sum is off by 0.2.
    weight = torch.tensor([[2.4, 5.4, 15.0, 0.0]])
    gram = torch.zeros(4, 4).double()
    gram[:2, :2] = 1
    gram[2:, 2:] = torch.eye(2)
    plain, solved = round_to_nearest(weight, 4, 4), round_compensated(weight, gram, 4, 4)
    assert (
        output_error(weight, solved, gram).sqrt().item()
        < 0.5 * output_error(weight, plain, gram).sqrt().item()
    )
    assert solved.codes[0, 0, 1] == plain.codes[0, 0, 1] + 1


def test_inputs_that_do_not_go_together_leave_nothing_to_make_up_for():
    weight = random_weight(8, 32)
    gram = torch.eye(32).double()
    plain, solved = round_to_nearest(weight, 4, 16), round_compensated(weight, gram, 4, 16)
    assert torch.equal(plain.codes, solved.codes)
    assert torch.equal(plain.scale, solved.scale)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("columns", [64, 75])
def test_layer_computes_what_matmulnbits_computes(bits, columns):
    layer = layer_of(random_weight(24, columns) / 100, bits, 16)
    x = torch.randn(2, 5, columns, generator=torch.Generator().manual_seed(2))
    tensors = {"codes": layer.codes, "scale": layer.scale, "zero_point": layer.zero_point}
    node = helper.make_node(
        "MatMulNBits",
        ["x", *tensors],
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=24,
        bits=bits,
        block_size=16,
    )
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length", size])
        for name, size in (("x", columns), ("y", 24))
    ]
    stored = [numpy_helper.from_array(value.numpy(), name) for name, value in tensors.items()]
    graph = helper.make_graph([node], "test", values[:1], values[1:], stored)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    expected = layer(x)
    # Equal weights, float32 sums in another order: √75 · 2^-24 of the largest sum, with room.
    assert (torch.from_numpy(got) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.equal(expected, nn.functional.linear(x, layer.dequantize()))


def layer_of(weight, bits, block):
    rounded = round_to_nearest(weight, bits, block)
    layer = WeightOnlyLinear(weight.shape[1], len(weight), False, bits, block)
    layer.codes, layer.zero_point = pack(rounded.codes, bits), pack(rounded.zero_point, bits)
    layer.scale = rounded.scale
    assert torch.equal(layer.dequantize(), rounded.dequantize())
    return layer


def test_layer_computes_in_float32_under_autocast():
    layer = layer_of(random_weight(8, 32), 4, 16)
    x = torch.randn(3, 32)
    with torch.autocast("cpu", torch.bfloat16):
        under = layer(x)
    assert torch.equal(under, layer(x))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", ["pruned low-rank", "gpt2", "t5", "modernbert", "fewer layers"])
def test_model_reloads_bit_for_bit_and_is_smaller(kind, bits, tmp_path):
    if kind == "fewer layers":
        context = Context(seed=0, workdir=tmp_path)
        model = Prune(layers=1).apply(tiny_artifact(tiny_model("bert")), context).model
    else:
        model = uneven_low_rank_model() if kind == "pruned low-rank" else tiny_model(kind, layers=1)
    dense = logits(model)
    names = quantize_weights(model, bits, 16)
    linears = [m for m in (model.get_submodule(name) for name in names) if isinstance(m, WeightOnlyLinear)]
    weights = sum(m.in_features * m.out_features for m in linears)
    stored = sum(t.numel() * t.element_size() for m in linears for k, t in m.named_buffers() if k != "bias")
    # A block of 16: 16 codes, a scale of 4 bytes and a zero point. Padding of odd widths comes on top.
    assert stored <= 1.3 * weights / 16 * (16 * bits / 8 + 4 + bits / 8)
    assert (logits(model) - dense).abs().max() < (0.6 if bits == 4 else 0.1) * dense.abs().max()
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_calibrated_model_is_nearer_to_the_dense_one():
    errors = []
    for batch in (None, tiny_batch()):
        model = tiny_model("bert")
        dense = logits(model)
        quantize_weights(model, 4, 32, batch=batch)
        errors.append((logits(model) - dense).norm())
    assert errors[1] < 0.7 * errors[0]


def test_a_layers_mean_output_is_kept():
    model = tiny_model("bert", layers=1)
    first = model.bert.encoder.layer[0].attention.self.query
    seen = []
    model.bert.embeddings.register_forward_hook(lambda module, inputs, output: seen.append(output))
    batch = tiny_batch()
    logits(model, batch)
    rows = seen[0][batch["attention_mask"].bool()]
    mean = first(rows).mean(0)
    quantize_weights(model, 4, 32, embeddings=False, batch=batch)
    rounded = model.bert.encoder.layer[0].attention.self.query
    torch.testing.assert_close(rounded(rows).mean(0), mean, rtol=1e-4, atol=1e-5)


def test_layers_that_no_example_reaches_are_rounded_to_nearest():
    model = tiny_model("bert", layers=1)
    model.bert.spare = nn.Linear(32, 8)
    plain = round_to_nearest(model.bert.spare.weight, 4, 16)
    quantize_weights(model, 4, 16, batch=tiny_batch())
    assert torch.equal(model.bert.spare.dequantize(), plain.dequantize())


def test_diverged_weights_are_refused_by_name():
    for batch in (None, tiny_batch()):
        model = tiny_model("bert", layers=1)
        model.bert.encoder.layer[0].output.dense.weight.data[3, 4] = torch.inf
        with pytest.raises(InputError, match=r"bert\.encoder\.layer\.0\.output\.dense: .*not all finite"):
            quantize_weights(model, 4, 32, batch=batch)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A pruned, factorized model at 4 bits: artifact, file, notes."""
    artifact = tiny_artifact(uneven_low_rank_model())
    quantize_weights(artifact.model, 4, 16)
    notes: list[str] = []
    return artifact, export_onnx(artifact, tmp_path_factory.mktemp("onnx"), notes), notes


def test_file_holds_the_models_codes_and_products(exported):
    artifact, path, notes = exported
    layers = [module for module in artifact.model.modules() if isinstance(module, WeightOnlyLinear)]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    nodes = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    assert len(nodes) == len(layers) == 14  # as in test_export
    assert {node.domain for node in nodes} == {"com.microsoft"}
    # Without the attribute, products are float32.
    assert not any(attribute.name == "accuracy_level" for node in nodes for attribute in node.attribute)
    stored = {t.name: numpy_helper.to_array(t).tobytes() for t in model.graph.initializer}
    assert sorted(stored[node.input[1]] for node in nodes) == sorted(
        layer.codes.numpy().tobytes() for layer in layers
    )
    assert (
        "all 14 weight-only layers are products in blocks, 14 in all; all codes are the model's" in notes[1]
    )


def test_file_gives_torchs_logits(exported):
    artifact, path, _ = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {name: value.numpy() for name, value in tiny_batch().items()})
    assert torch.allclose(torch.from_numpy(got), logits(artifact.model), atol=1e-5)


def test_other_codes_and_missing_products_are_errors(exported, tmp_path):
    artifact, path, _ = exported
    wrong = altered(path, tmp_path, onnx_ir.DataType.UINT8)
    with pytest.raises(CompressError, match="the uint8 codes of bert.* are not in it"):
        check_graph(wrong, traceable(artifact.model), sample_of(artifact))
    twice = traceable(artifact.model)
    twice.bert.encoder.layer.append(twice.bert.encoder.layer[1])  # one module, run twice
    with pytest.raises(CompressError, match="14 weight-only products for 21 uses of weight-only layers"):
        check_graph(path, twice, sample_of(artifact))


def language_model(tied, folder: Path):
    """A tiny Llama that predicts tokens, in an ordinary folder."""
    config = AutoConfig.for_model(
        "llama",
        vocab_size=20,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        pad_token_id=1,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    save(Artifact(model, tiny_tokenizer(), Manifest(source="tiny")), folder)
    return model


@pytest.mark.parametrize(("scheme", "tied"), [("weight4", True), ("weight8", False), ("dynamic", True)])
def test_language_model_keeps_its_head_through_quantize_reload_and_export(scheme, tied, tmp_path):
    dense = language_model(tied, tmp_path / "model")
    bare = load(tmp_path / "model")
    assert type(bare.model).__name__ == "LlamaModel", "other passes work without the head"
    context = Context(seed=0, workdir=tmp_path, data=tiny_data(), input_folder=tmp_path / "model")
    artifact = Quantize(scheme=scheme).apply(bare, context)
    model = artifact.model
    assert torch.equal(model.lm_head.weight, dense.lm_head.weight)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    note = "left in float32, as modules share them: lm_head, model.embed_tokens"
    assert (note in context.notes) is tied
    assert (logits(model) - logits(dense)).abs().max() < 0.6 * logits(dense).abs().max()

    record = PassRecord(name="quantize", config={}, input_hash="0", seed=0, versions={}, seconds=0)
    save(artifact.with_record(record), tmp_path / "small")
    again = load(tmp_path / "small").model
    assert torch.equal(logits(again), logits(model))
    assert (again.lm_head.weight is getattr(again.model.embed_tokens, "weight", None)) is tied
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    assert torch.equal(logits(plain), logits(model))

    path = export_onnx(load(tmp_path / "small"), tmp_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {name: value.numpy() for name, value in tiny_batch().items()})
    assert got.shape == (4, 12, 20)
    tolerance = 0.2 if scheme == "dynamic" else 1e-5  # float sums move an activation across a rounding
    assert (torch.from_numpy(got) - logits(model)).abs().max() < tolerance * logits(model).abs().max()


def test_pass_says_what_it_did(tmp_path):
    for data, how in ((tiny_data(), "compensated"), (None, "to nearest, as there is no data")):
        context = Context(seed=0, workdir=tmp_path, data=data)
        step = Quantize.model_validate({"pass": "quantize", "scheme": "weight4", "block": 16})
        artifact = step.apply(tiny_artifact(tiny_model("bert", layers=1)), context)
        assert isinstance(artifact.model.bert.pooler.dense, WeightOnlyLinear)
        # Seven matrices and three tables.
        assert context.notes[0].startswith(f"4 bits in blocks of 16, rounded {how}: 10 matrices; ")


def test_nothing_trains_or_rounds_it_again(tmp_path):
    artifact = Quantize(scheme="weight4").apply(
        tiny_artifact(tiny_model("bert", layers=1)), Context(seed=0, workdir=tmp_path)
    )
    save(artifact, tmp_path / "model")
    assert is_quantized(read_config(tmp_path / "model"))
    plan = ModelPlan(None, None, None, quantized=True)
    Quantize(scheme="weight4").check(plan)
    assert "quantized already" in plan.errors[0]
    with pytest.raises(InputError, match="no float linear layer"):
        quantize_weights(artifact.model, 4, 32)
