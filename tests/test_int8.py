"""Int8 layers compute what ONNX Runtime computes; a model's matrices become int8 and come back bit for bit."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_models import FAMILIES, assert_reloads, logits, tiny_artifact, tiny_model
from torch import nn

from compress.errors import InputError
from compress.layers import Int8Embedding, Int8Linear, LowRankLinear, int8
from compress.passes.base import Context, ModelPlan
from compress.passes.quantize import Quantize
from compress.quantization import dequantize, quantize_model, quantize_weight, tied_weights


def runtime(nodes, inputs, outputs, initializers=()):
    def values(pairs):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in pairs]

    graph = helper.make_graph(nodes, "test", values(inputs), values(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(params=["kernel", "float chunks"])
def product(request, monkeypatch):
    """Both ways of computing an exact integer product; the kernel's own only where the machine has one."""
    if request.param == "float chunks":
        monkeypatch.setattr(int8, "_int_mm_is_exact", lambda: False)


def uneven_low_rank_model(family="bert", **options):
    """Layer 0 loses one head of four and 24 of 64 neurons; layer 1's first FFN matrix becomes a pair."""
    model = tiny_model(family, layers=2, **options)
    torch.manual_seed(1)
    first, second = model.base_model.encoder.layer
    for name in ("query", "key", "value"):
        setattr(first.attention.self, name, nn.Linear(32, 24))
    first.attention.output.dense = nn.Linear(24, 32)
    first.intermediate.dense, first.output.dense = nn.Linear(32, 40), nn.Linear(40, 32)
    second.intermediate.dense = LowRankLinear(32, 64, 8, bias=True)
    return model


def test_weight_error_is_at_most_half_a_step():
    weight = (
        torch.randn(50, 70, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 50)[:, None]
    )
    codes, scale = quantize_weight(weight)
    error = (weight.double() - scale.double()[:, None] * codes.double()).abs()
    assert codes.dtype == torch.int8
    assert torch.equal(codes.abs().amax(1), torch.full((50,), 127, dtype=torch.int8))
    # 127 steps of float32 rounding, 2^-24 each, come on top of the half step.
    assert (error <= scale.double()[:, None] * (0.5 + 127 * 2**-23)).all()
    assert torch.equal(dequantize(codes, scale), codes.float() * scale[:, None])


def test_weight_codes_of_a_hand_computed_row():
    # Largest 12.7, so a step is 0.1; 0.25 is 2.5 steps, rounded half to even.
    codes, scale = quantize_weight(torch.tensor([[12.7, -12.7, 0.26, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    assert codes.tolist() == [[127, -127, 3, 0], [0, 0, 0, 0]]
    assert scale.tolist() == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0, 0.01])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_activation_codes_are_those_of_onnx(shift, size):
    session = runtime(
        [helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "step", "zero"])],
        [("x", TensorProto.FLOAT, ["rows", "columns"])],
        [
            ("codes", TensorProto.UINT8, None),
            ("step", TensorProto.FLOAT, []),
            ("zero", TensorProto.UINT8, []),
        ],
    )
    x = size * (torch.randn(33, 65, generator=torch.Generator().manual_seed(0)) + shift)
    for values in (x, torch.zeros_like(x)):
        codes, step, zero = int8.quantize_activations(values)
        expected = session.run(None, {"x": values.numpy()})
        assert np.array_equal(codes.numpy(), expected[0])
        assert step.item() == expected[1]
        assert zero.item() == expected[2]


@pytest.mark.usefixtures("product")
def test_integer_product_is_exact_far_beyond_float32():
    # 255 · 127 · 3000 is 97 million, almost six times 2^24; an odd code makes the sum odd.
    codes = torch.full((3, 3000), 255, dtype=torch.uint8)
    weight = torch.full((5, 3000), 127, dtype=torch.int8)
    weight[1], weight[2, 7] = -127, 126
    codes[1] = torch.randint(256, (3000,), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for zero in (0, 3, 255):
        expected = (codes.to(torch.int64) - zero) @ weight.to(torch.int64).t()
        sums = int8.integer_product(codes, torch.tensor(float(zero)), weight)
        assert torch.equal(sums, expected.to(torch.int32))


@pytest.mark.usefixtures("product")
def test_linear_is_onnx_runtimes_fused_product():
    torch.manual_seed(0)
    layer = Int8Linear(600, 48, bias=True)
    layer.weight, layer.scale = quantize_weight(torch.randn(48, 600))
    layer.bias = torch.randn(48)
    tensors = {"weight": layer.weight.t().contiguous(), "scale": layer.scale, "bias": layer.bias}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "step", "zero"]),
        helper.make_node("MatMulInteger", ["codes", "weight", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["step", "scale"], ["steps"]),
        helper.make_node("Mul", ["floats", "steps"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["y"]),
    ]
    session = runtime(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", "length", 600])],
        [("y", TensorProto.FLOAT, ["batch", "length", 48])],
        [numpy_helper.from_array(value.numpy(), name) for name, value in tensors.items()],
    )
    for shape in ((1, 1, 600), (2, 9, 600)):
        x = torch.randn(shape)
        with torch.inference_mode():
            y = layer(x)
        # Equal sums, equal scales: what is left is the last bit, where a kernel may fuse multiply and add.
        np.testing.assert_allclose(y.numpy(), session.run(None, {"x": x.numpy()})[0], rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures("product")
def test_linear_computes_in_float32_under_autocast():
    layer = Int8Linear(64, 8, bias=False)
    layer.weight, layer.scale = quantize_weight(
        torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    )
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        under = layer(x)
    assert torch.equal(under, layer(x))


def test_embedding_keeps_a_padding_row_of_zeros():
    table = nn.Embedding(6, 16, padding_idx=2)
    codes, scale = quantize_weight(table.weight)
    layer = Int8Embedding(6, 16)
    layer.weight, layer.scale = codes, scale[:, None]
    ids = torch.tensor([[2, 5, 0]])
    assert torch.equal(layer(ids)[0, 0], torch.zeros(16))
    assert ((layer(ids) - table(ids)).abs() <= scale[ids][..., None] * 0.501).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_but_the_last_becomes_int8(family):
    model = tiny_model(family, layers=1)
    names = quantize_model(model)
    kinds = {name: type(module) for name, module in model.named_modules()}
    left = [name for name, kind in kinds.items() if kind in (nn.Linear, nn.Embedding)]
    last = "classifier.out_proj" if hasattr(model.classifier, "out_proj") else "classifier"
    bias = ["mpnet.encoder.relative_attention_bias"] if family == "mpnet" else []
    assert left == [*bias, last]
    assert set(names) == {name for name, kind in kinds.items() if kind in (Int8Linear, Int8Embedding)}


@pytest.mark.parametrize("family", FAMILIES)
def test_reloads_bit_for_bit(family, tmp_path):
    model = tiny_model(family, layers=1)
    quantize_model(model)
    assert_reloads(tiny_artifact(model), tmp_path / "model")


@pytest.mark.parametrize("embeddings", [True, False])
def test_pruned_low_rank_model_reloads_bit_for_bit(embeddings, tmp_path):
    model = uneven_low_rank_model()
    dense = logits(model)
    names = quantize_model(model, embeddings=embeddings)
    assert "bert.encoder.layer.1.intermediate.dense.first" in names
    assert ("bert.embeddings.word_embeddings" in names) is embeddings
    # Rounding to 8 bits leaves a small error; on weights this wild it stays below a tenth.
    assert (logits(model) - dense).abs().max() < 0.1 * dense.abs().max()
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_shared_weights_are_left_alone():
    model = tiny_model("bert", layers=1)
    layer = model.bert.encoder.layer[0]
    layer.attention.self.key.weight = layer.attention.self.query.weight
    tied = {f"bert.encoder.layer.0.attention.self.{name}" for name in ("query", "key")}
    assert tied_weights(model) == tied
    assert not tied & set(quantize_model(model))
    assert layer.attention.self.key.weight is layer.attention.self.query.weight


def test_half_precision_becomes_float32():
    model = tiny_model("bert", layers=1).to(torch.bfloat16)
    quantize_model(model)
    assert logits(model).dtype == torch.float32


def test_diverged_weights_are_refused_by_name():
    model = tiny_model("bert", layers=1)
    model.bert.encoder.layer[0].output.dense.weight.data[3, 4] = torch.nan
    with pytest.raises(InputError, match=r"bert\.encoder\.layer\.0\.output\.dense: .*not all finite"):
        quantize_model(model)


def test_a_quantized_model_is_not_quantized_again():
    model = tiny_model("bert", layers=1)
    quantize_model(model)
    with pytest.raises(InputError, match="no float linear layer"):
        quantize_model(model)


def test_pass_refuses_a_second_time_and_after_export():
    plan = ModelPlan(None, None, None, place="passes[0] (quantize)")
    Quantize().check(plan)
    assert plan.quantized
    assert not plan.errors
    Quantize().check(plan)
    Quantize().check(ModelPlan(None, None, None, exported=True, errors=plan.errors))
    assert "quantized already. Drop this pass" in plan.errors[0]
    assert "Put quantize before export" in plan.errors[1]


def test_pass_says_what_it_did(tmp_path):
    context = Context(seed=0, workdir=tmp_path)
    artifact = Quantize.model_validate({"pass": "quantize", "embeddings": False}).apply(
        tiny_artifact(tiny_model("bert", layers=1)), context
    )
    # Six matrices of the layer and the pooler; tables and the classifier stay.
    assert context.notes[0].startswith("int8: 7 matrices; ")
    assert isinstance(artifact.model.bert.pooler.dense, Int8Linear)


def test_pass_is_imported_without_torch():
    code = "import sys, compress.passes.quantize, compress.passes.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("family", "stays"),
    # SqueezeBERT: q, k, v in four groups of (8, 8), an output (32, 32), two of four groups of (16, 8) each.
    # Qwen2-MoE: four experts with a matrix (64, 32) and one (32, 32).
    [
        ("deberta-v3", None),
        ("falcon", None),
        ("squeezebert", "Conv1d (2,816 weights)"),
        ("qwen2_moe", "Qwen2MoeExperts (12,288 weights)"),
    ],
)
def test_what_cannot_be_int8_is_said(family, stays, tmp_path):
    context = Context(seed=0, workdir=tmp_path)
    model = tiny_model(family, layers=1)
    dense = logits(model)
    artifact = Quantize().apply(tiny_artifact(model), context)
    assert (logits(artifact.model) - dense).abs().max() < 0.1 * dense.abs().max()
    notes = [note for note in context.notes if note.startswith("left in float32")]
    assert (stays is None) == (not notes)
    assert stays is None or stays in notes[0]
