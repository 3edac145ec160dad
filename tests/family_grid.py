"""Every family through every operation: what the tests check and the table in the docs is made of."""

from functools import cache
from pathlib import Path

import datasets
from tiny_models import tiny_model
from tiny_tokenizers import SENTENCES, trained_tokenizer

from compress.artifact import Artifact
from compress.data import TextData
from compress.errors import InputError
from compress.manifest import Manifest
from compress.passes.base import Context, ModelPlan
from compress.passes.factorize import Factorize
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.passes.vocabulary import Vocabulary
from compress.tasks import Task

OPERATIONS = {
    "heads": Prune(heads=0.25, criterion="magnitude"),
    "ffn": Prune(ffn=0.5, criterion="magnitude"),
    "layers": Prune(layers=1),
    "factorize": Factorize(keep=0.6, method="plain"),
    "vocabulary": Vocabulary(min_count=1),
    "int8": Quantize(),
}
LABELS = ("negative", "positive")


@cache
def text_data():
    """Twenty sentences to count the pieces of, ten more to look at."""
    splits = [
        datasets.Dataset.from_dict({"text": texts, "label": [0, 1] * (len(texts) // 2)})
        for texts in (SENTENCES[:20], SENTENCES[20:26], SENTENCES[26:30])
    ]
    return TextData("sentences", *splits, labels=LABELS, pair=False, fingerprint="0", notes=())


def artifact_of(family):
    """Two layers and a tokenizer of the family's kind."""
    tokenizer = trained_tokenizer(family)
    if tokenizer.pad_token is None:  # as `load` does for GPT-2
        tokenizer.pad_token = tokenizer.eos_token
    model = tiny_model(family, layers=2, tokenizer=tokenizer)
    return Artifact(
        model, tokenizer, Manifest(source=family, task=Task(kind="classification", labels=LABELS))
    )


def batch_of(artifact):
    """Four sentences of the data as the tokenizer cuts them, the longest to 38 tokens."""
    texts = SENTENCES[:4]
    batch = artifact.tokenizer(texts, truncation=True, max_length=38, padding=True, return_tensors="pt")
    return dict(batch)


def changed(artifact, operation, folder: Path):
    """Do an operation as a recipe would: check it, then run it.

    Raises:
        InputError: it was refused, in either.
    """
    step, data = OPERATIONS[operation], text_data()
    plan = ModelPlan(artifact.model.config, artifact.task, data, place=operation)
    step.check(plan)
    if plan.errors:
        raise InputError(" ".join(plan.errors))
    return step.apply(artifact, Context(seed=0, workdir=folder, data=data))
