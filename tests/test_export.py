"""An exported file is the model: same codes, same answers at any shape, and fast products in ONNX Runtime."""

from collections import Counter
from pathlib import Path

import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from test_int8 import uneven_low_rank_model
from tiny_models import logits, tiny_artifact, tiny_batch, tiny_model, tiny_tokenizer
from transformers import BertConfig, BertModel

from compress.artifact import Artifact, load, save
from compress.errors import CompressError, InputError
from compress.exporting.examples import example, input_names, longest_input
from compress.exporting.export import OPSET, _write, export_onnx
from compress.exporting.graph import check_graph, tidy
from compress.exporting.mobile import write_ort
from compress.exporting.parity import check_parity
from compress.exporting.traceable import traceable
from compress.layers import Int8Embedding, Int8Linear
from compress.manifest import Manifest
from compress.passes.base import Context, ModelPlan
from compress.passes.export import Export
from compress.quantization import quantize_model
from compress.tasks import Task

TOKENS = ("input_ids", "attention_mask")


def sample_of(artifact):
    return example(artifact.model, artifact.tokenizer, [7, 7], torch.Generator().manual_seed(0))


def optimized_operators(path: Path, folder: Path):
    """Count the operators of the graph that ONNX Runtime makes of the file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """A pruned, factorized, quantized three-label BERT: artifact, file, notes."""
    model = uneven_low_rank_model(num_labels=3)
    quantize_model(model)
    manifest = Manifest(task=Task(kind="classification", labels=("a", "b", "c")))
    notes: list[str] = []
    artifact = Artifact(model, tiny_tokenizer(), manifest)
    return artifact, export_onnx(artifact, tmp_path_factory.mktemp("int8"), notes), notes


@pytest.fixture(scope="module")
def float32(tmp_path_factory):
    """An ELECTRA, exported by the pass."""
    artifact = tiny_artifact(tiny_model("electra", layers=1))
    context = Context(seed=0, workdir=tmp_path_factory.mktemp("float"))
    return artifact, Export().apply(artifact, context), context


def test_int8_file_holds_the_models_codes(int8):
    artifact, path, _ = int8
    assert path.name == "model_quantized.onnx"
    stored = [onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.data_type == 3]
    linear = [m.weight.t() for m in artifact.model.modules() if isinstance(m, Int8Linear)]
    tables = [m.weight for m in artifact.model.modules() if isinstance(m, Int8Embedding)]
    assert sorted(array.tobytes() for array in stored) == sorted(
        codes.contiguous().numpy().tobytes() for codes in linear + tables
    )


def test_int8_products_fuse_and_share_quantized_inputs(int8, tmp_path):
    artifact, path, notes = int8
    layers = sum(isinstance(module, Int8Linear) for module in artifact.model.modules())
    assert layers == 14  # six a layer, one more for the pair, one in the pooler
    found = optimized_operators(path, tmp_path)
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == layers
    assert found["DynamicQuantizeLinear"] == 2  # once a layer for q, k and v
    assert found["SkipLayerNormalization"] == found["MatMulInteger"] == 0
    assert "all 14 int8 layers are integer products, 14 in all, on 10 quantized inputs" in notes[1]
    assert "1×1, 1×12, 1×40, 3×12, 4×40: logits up to" in notes[2]


@pytest.mark.parametrize("fixture", ["int8", "float32"])
def test_batch_and_length_are_free_and_one_file_holds_all(fixture, request):
    artifact, path = request.getfixturevalue(fixture)[:2]
    if fixture == "float32":
        path = path.attachments["onnx/model.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    axes = {v.name: [d.dim_param for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    assert axes == dict.fromkeys(TOKENS, ["batch", "length"])
    (output,) = model.graph.output
    assert output.name == "logits"
    assert output.type.tensor_type.shape.dim[1].dim_value == artifact.model.config.num_labels
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_float_file_gives_torchs_logits_on_padded_text(float32):
    _, artifact, context = float32
    session = onnxruntime.InferenceSession(artifact.attachments["onnx/model.onnx"])
    (got,) = session.run(None, {name: value.numpy() for name, value in tiny_batch().items()})
    assert torch.allclose(torch.from_numpy(got), logits(artifact.model), atol=1e-5)
    assert any(note.startswith("parity with torch at ") for note in context.notes)


def test_onnx_runtimes_own_quantizer_takes_the_float_file(float32, tmp_path):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = float32[1].attachments["onnx/model.onnx"]
    quantize_dynamic(path, tmp_path / "theirs.onnx", weight_type=QuantType.QInt8)
    found = optimized_operators(tmp_path / "theirs.onnx", tmp_path)
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] >= 6


def test_weights_beyond_the_limit_of_one_file_go_beside_it(int8, tmp_path, monkeypatch):
    artifact, path, _ = int8
    monkeypatch.setattr("compress.exporting.export.SINGLE_FILE", 1000)
    _write(onnx_ir.load(path), tmp_path / path.name)
    assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}.data"}
    check_graph(tmp_path / path.name, traceable(artifact.model), sample_of(artifact))
    check_parity(tmp_path / path.name, artifact.model, artifact.tokenizer, artifact.task, ["logits"])


def test_an_older_opset_and_the_mobile_format_are_the_same_model(tmp_path):
    """17 has no Gelu operator, so it is spelled out; `.ort` is what ONNX Runtime's mobile builds read."""
    artifact = tiny_artifact(tiny_model("bert", layers=1))
    context = Context(seed=0, workdir=tmp_path)
    made = Export(opset=17, mobile=True).apply(artifact, context)

    save(made, tmp_path / "saved")
    folder = tmp_path / "saved" / "onnx"
    batch = tiny_batch()
    feeds = {name: values.numpy() for name, values in batch.items()}
    files = [onnxruntime.InferenceSession(folder / f"model.{kind}") for kind in ("onnx", "ort")]
    answers = [session.run(["logits"], feeds)[0] for session in files]

    (version,) = [
        entry.version for entry in onnx.load(folder / "model.onnx").opset_import if not entry.domain
    ]
    assert version == 17
    for answer in answers:
        torch.testing.assert_close(torch.from_numpy(answer), logits(made.model, batch), rtol=1e-4, atol=1e-5)
    assert sum("parity with torch" in note for note in context.notes) == 2


def test_an_opset_that_onnx_runtime_does_not_know_is_refused_before_anything_runs():
    plan = ModelPlan(tiny_model("bert", layers=1).config, None, None, place="passes[0]")

    Export(opset=99).check(plan)

    assert plan.errors == [
        "passes[0]: the installed ONNX Runtime does not run opset 99. Give a lower one; 20 is the default."
    ]


def test_what_cannot_be_written_for_mobile_builds_is_a_clear_error_and_leaves_no_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("no graph")

    with pytest.raises(InputError, match=r"model\.onnx: ONNX Runtime cannot write the model as \.ort"):
        write_ort(path)

    assert list(tmp_path.iterdir()) == [path]


def test_folder_keeps_the_file(float32, tmp_path):
    _, artifact, _ = float32
    save(artifact, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.attachments == {"onnx/model.onnx": tmp_path / "model/onnx/model.onnx"}


@pytest.mark.parametrize("family", ["roberta", "distilbert", "mpnet"])
def test_int8_families_export_with_one_number_as_answer(family, tmp_path):
    model = tiny_model(family, layers=1, num_labels=1)
    quantize_model(model)
    artifact = Artifact(model, tiny_tokenizer(), Manifest(task=Task(kind="regression")))
    notes: list[str] = []
    path = export_onnx(artifact, tmp_path, notes)
    found = optimized_operators(path, tmp_path)
    layers = sum(isinstance(module, Int8Linear) for module in model.modules())
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == layers
    longest = 38 if family in ("roberta", "mpnet") else 40  # pad id 1: positions 0 and 1 are not for tokens
    assert f"1×{longest}" in notes[2]


def test_model_without_head_gives_hidden_states_by_the_other_tracer(tmp_path, monkeypatch):
    export = torch.onnx.export

    def failing(model, *args, **kwargs):
        if isinstance(model, torch.nn.Module):
            raise RuntimeError("cannot trace this")
        return export(model, *args, **kwargs)

    monkeypatch.setattr(torch.onnx, "export", failing)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = [*TOKENS, "token_type_ids"]
    artifact = Artifact(BertModel(config).eval(), tokenizer, Manifest())
    graph = onnx.load(export_onnx(artifact, tmp_path)).graph
    assert [value.name for value in graph.input] == [*TOKENS, "token_type_ids"]
    assert [value.name for value in graph.output] == ["last_hidden_state"]


def test_untraceable_model_is_one_clear_error(tmp_path, monkeypatch):
    artifact = tiny_artifact(tiny_model("bert", layers=1))

    def failing(*args, **kwargs):
        raise RuntimeError("cannot trace this\nwith a long explanation")

    monkeypatch.setattr(torch.onnx, "export", failing)
    monkeypatch.setattr("transformers.exporters.exporter_onnx.OnnxExporter.export", failing)
    with pytest.raises(InputError, match="bert: the model cannot be traced to ONNX \\(cannot trace this;"):
        export_onnx(artifact, tmp_path)


def altered(path: Path, folder: Path, kind: onnx_ir.DataType) -> Path:
    """Copy a file with the first large tensor of a type changed."""
    program = onnx_ir.load(path)
    for value in program.graph.initializers.values():
        if value.const_value.dtype == kind and value.const_value.size > 100:
            array = value.const_value.numpy().copy()
            array.flat[::3] += 1
            value.const_value = onnx_ir.tensor(array, name=value.name)
            break
    onnx_ir.save(program, folder / path.name)
    return folder / path.name


def test_other_codes_are_an_error(int8, tmp_path):
    artifact, path, _ = int8
    wrong = altered(path, tmp_path, onnx_ir.DataType.INT8)
    with pytest.raises(CompressError, match="the int8 codes of bert.* are not in it"):
        check_graph(wrong, traceable(artifact.model), sample_of(artifact))


@pytest.mark.parametrize(("fixture", "kind"), [("float32", "FLOAT"), ("int8", "INT8")])
def test_other_answers_are_an_error(fixture, kind, request, tmp_path):
    artifact, path = request.getfixturevalue(fixture)[:2]
    if fixture == "float32":
        path = path.attachments["onnx/model.onnx"]
    wrong = altered(path, tmp_path, onnx_ir.DataType[kind])
    with pytest.raises(CompressError, match=r"logits differs from torch's by .* is allowed"):
        check_parity(wrong, artifact.model, artifact.tokenizer, artifact.task, ["logits"])


def test_a_fixed_axis_and_a_missing_product_are_errors(int8, tmp_path):
    artifact, path, _ = int8
    program = onnx_ir.load(path)
    program.graph.inputs[1].shape = onnx_ir.Shape(["batch", 7])
    onnx_ir.save(program, tmp_path / "fixed.onnx")
    with pytest.raises(CompressError, match="input attention_mask has a fixed axis"):
        check_graph(tmp_path / "fixed.onnx", traceable(artifact.model), sample_of(artifact))
    twice = traceable(artifact.model)
    layer = twice.bert.encoder.layer
    layer.append(layer[1])  # one module, run twice, as ALBERT's
    with pytest.raises(CompressError, match="14 int8 products for 21 uses of int8 layers"):
        check_graph(path, twice, sample_of(artifact))


def test_a_traced_squeeze_does_not_drop_a_batch_of_one():
    """MBart's decoder start is `ids.gather(1, last).squeeze()`, shape (batch, 1) to (batch,)."""
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 1])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch"])]
    node = onnx.helper.make_node("Squeeze", ["x"], ["y"])
    graph, opset = (
        onnx.helper.make_graph([node], "test", inputs, outputs),
        onnx.helper.make_opsetid("", OPSET),
    )
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[opset])
    program = tidy(onnx_ir.from_proto(model), ["logits"])
    session = onnxruntime.InferenceSession(onnx_ir.to_proto(program).SerializeToString())
    for rows in (1, 3):
        (got,) = session.run(None, {"x": torch.ones(rows, 1).numpy()})
        assert got.shape == (rows,)


def test_a_file_that_fails_its_check_is_removed(tmp_path, monkeypatch):
    def failing(path, *args):
        assert path.is_file()
        raise CompressError("differs")

    monkeypatch.setattr("compress.exporting.export._trace", lambda *args: onnx_ir.load(tmp_path / "in.onnx"))
    monkeypatch.setattr("compress.exporting.export.tidy", lambda program, output: program)
    monkeypatch.setattr("compress.exporting.export.check_graph", failing)
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "in.onnx")
    with pytest.raises(CompressError, match="differs"):
        export_onnx(tiny_artifact(tiny_model("bert", layers=1)), tmp_path)
    assert not list((tmp_path / "onnx").iterdir())


def test_only_inputs_that_model_and_tokenizer_share():
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = ["token_type_ids", *TOKENS]
    assert input_names(tiny_model("bert", layers=1), tokenizer) == (*TOKENS, "token_type_ids")
    assert input_names(tiny_model("distilbert", layers=1), tokenizer) == TOKENS


def test_longest_input_is_the_tasks_or_the_models():
    roberta = tiny_model("roberta", layers=1)
    assert longest_input(roberta, Task(kind="regression", max_length=20)) == 20
    assert longest_input(roberta, Task(kind="regression")) == 38
    assert longest_input(roberta, None) == 38


def test_pass_refuses_a_second_export():
    plan = ModelPlan(None, None, None, place="passes[1] (export)")
    Export.model_validate({"pass": "export"}).check(plan)
    assert plan.exported
    assert not plan.errors
    Export().check(plan)
    assert plan.errors == [
        "passes[1] (export): the model is exported already. Keep one export, as the last pass."
    ]
