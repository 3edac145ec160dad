"""Made-up data for each kind of task, and the whole way from it to a checked, benched file."""

import itertools
import json

import torch
from tiny_data import BAD, GOOD, NOUNS, VERBS
from tiny_tokenizers import trained_tokenizer
from transformers import AutoConfig, AutoModel

from compress import pipeline, running
from compress.artifact import Artifact, load, read_manifest, save
from compress.benchmark import BenchConfig
from compress.data import DataConfig
from compress.manifest import Manifest
from compress.passes.export import Export
from compress.passes.finetune import Finetune
from compress.pipeline import Step

SENTENCES = [
    f"{article} {noun} {verb} {word}"
    for article, noun, verb, word in itertools.product(("the", "a"), NOUNS, VERBS, (*GOOD, *BAD))
]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bare_model(folder, family="bert", positions=40):
    """Save a tiny encoder without a head, with a tokenizer that knows the sentences' words in pieces."""
    tokenizer = trained_tokenizer(family, SENTENCES, 60)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 2}
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        max_position_embeddings=positions,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    torch.manual_seed(0)
    save(Artifact(AutoModel.from_config(config).eval(), tokenizer, Manifest(source="tiny")), folder)
    return str(folder)


def train(model, data, out, **options):
    """Fine-tune and export; return the two folders."""
    settings = {
        "epochs": 3,
        "learning_rate": 1e-3,
        "batch_size": 8,
        "max_length": 24,
        "bf16": False,
        **options,
    }
    steps = [Step(Finetune(**settings), out / "01-finetune"), Step(Export(), out / "02-export")]
    return pipeline.run(pipeline.plan(model, steps, data), out / "work")


def whole_way(tmp_path, data: DataConfig, **options):
    """Train, export, reload and bench a tiny model; return the trained artifact and the bench's accuracies.

    Asserted on the way: the folder reloads bit for bit, the file agrees with torch's answers, and the bench scores
    the torch model as evaluation does.
    """
    trained, exported = train(bare_model(tmp_path / "bare"), data, tmp_path, **options)
    artifact, again = load(trained), load(exported)
    batch = dict(artifact.tokenizer(SENTENCES[:3], padding=True, return_tensors="pt"))
    with torch.inference_mode():
        for name, value in artifact.model(**batch).items():
            assert torch.equal(value, again.model(**batch)[name])
    config = BenchConfig(batch_sizes=(1,), sequence_lengths=(8,), seconds=1, rounds=2)
    report = running.bench_models([str(trained), str(exported)], config, None, tmp_path / "bench")
    assert read_manifest(trained).history[-1].after
    return artifact, {(one.name, one.runtime): one for one in report.accuracy}
