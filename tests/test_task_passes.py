"""Every pass on a model of every kind of task: it works and reloads, or says in a sentence why not."""

import pytest
import test_task_embedding
import test_task_multilabel
import test_task_questions
import test_task_tokens
import torch
from tiny_tasks import SENTENCES, bare_model, write_jsonl

from compress import pipeline
from compress.artifact import load, save
from compress.data import DataConfig, load_data
from compress.errors import InputError
from compress.passes.distill import Distill
from compress.passes.export import Export
from compress.passes.factorize import Factorize
from compress.passes.finetune import task_of
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.passes.vocabulary import Vocabulary
from compress.pipeline import Step

SHORT = {"epochs": 1, "batch_size": 8, "bf16": False, "learning_rate": 1e-3}
PASSES = {
    "prune by second moments": Prune(sparsity=0.3, samples=16),
    "prune by fisher": Prune(sparsity=0.3, criterion="fisher", samples=16),
    "prune by taylor": Prune(ffn=0.5, criterion="taylor", samples=16),
    "drop a layer": Prune(layers=1, choose_layers="effect", samples=16),
    "narrow": Prune(hidden=24, samples=16),
    "factorize": Factorize(keep=0.6, samples=16, embeddings=0.5),
    "factorize by fisher": Factorize(keep=0.6, method="fisher", samples=16),
    "distil": Distill(student="teacher:1", match=[{"objective": "hidden"}], **SHORT),
    "distil by a teacher that answers at every step": Distill(student="teacher:1", cache=False, **SHORT),
    "vocabulary": Vocabulary(min_count=2),
    "int8": Quantize(),
    "int8 static": Quantize(scheme="static", samples=16),
    "int8 within a budget": Quantize(max_drop=0.01, samples=16),
}
KINDS = {
    "multilabel": test_task_multilabel.rows,
    "tokens": test_task_tokens.rows,
    "questions": test_task_questions.rows,
    "embedding": test_task_embedding.rows,
    "language": None,
}
_PAIRS = "an embedding's is one of pairs.*Use"  # a criterion needs each text's own loss
REFUSED = {
    ("embedding", "prune by fisher"): _PAIRS,
    ("embedding", "prune by taylor"): _PAIRS,
    ("embedding", "factorize by fisher"): _PAIRS,
    (
        "embedding",
        "narrow",
    ): "hidden width cannot be pruned.*Prune heads",  # BERT's pooler, which no answer reads
    ("language", "factorize"): "the table is tied.*Leave the embedding",
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """By kind: a folder with a model that has the head, and its data."""
    found = {}
    for kind, rows in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        if rows is None:
            (folder / "x.txt").write_text("\n".join(SENTENCES))
            source = folder / "x.txt"
        else:
            source = write_jsonl(folder / "x.jsonl", rows())
        data = DataConfig(source=str(source), task=kind)
        task = task_of(load_data(data), 24)
        save(load(bare_model(folder / "bare"), task), folder / "model")
        found[kind] = str(folder / "model"), data
    return found


def test_an_embedding_learns_from_single_texts_too(tmp_path, given):
    folder, data = given["embedding"]
    more = tmp_path / "more.txt"
    more.write_text("\n".join(f"a {word} plot" for word in ("dull", "bright", "fine", "good", "bad")))
    found = {}
    for name, unlabelled in (("without", ()), ("with", str(more))):
        distill = Distill(
            student="teacher:1", unlabelled=unlabelled, match=[{"objective": "hidden"}], **SHORT
        )
        pipeline.run(pipeline.plan(folder, [Step(distill, tmp_path / name)], data), tmp_path / "work")
        found[name] = load(tmp_path / name)
    assert f"{more}: 5 of 5 unlabelled texts" in found["with"].manifest.history[-1].notes
    weights = [each.model.state_dict()["encoder.layer.0.output.dense.weight"] for each in found.values()]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_works_on_every_kind_and_its_result_reloads(tmp_path, given, kind, name):
    model, data = given[kind]
    steps = [Step(PASSES[name], tmp_path / "out")]
    if (kind, name) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[kind, name]):
            pipeline.run(pipeline.plan(model, steps, data), tmp_path / "work")
        assert not (tmp_path / "out").exists()
        return
    pipeline.run(pipeline.plan(model, steps, data), tmp_path / "work")
    first, second = load(tmp_path / "out"), load(tmp_path / "out")
    batch = dict(first.tokenizer(SENTENCES[:3], padding=True, return_tensors="pt"))
    with torch.inference_mode():
        for output, value in first.model(**batch).items():
            assert torch.equal(value, second.model(**batch)[output])
    assert first.task.kind == kind
    assert first.manifest.history[-1].after


@pytest.mark.parametrize("kind", ["tokens", "questions", "embedding", "language"])
def test_a_bundle_is_refused_where_its_runners_cannot_read_the_answer(tmp_path, given, kind):
    model, data = given[kind]
    with pytest.raises(InputError, match=f"runners do not read {kind} yet.*Leave bundle out"):
        pipeline.plan(model, [Step(Export(bundle=True), tmp_path / "out")], data)
