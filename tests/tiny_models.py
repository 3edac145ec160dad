"""Tiny random models, one per family, and a word tokenizer that goes with all of them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from compress.artifact import Artifact
from compress.manifest import Manifest
from compress.tasks import Task

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet")
WORDS = "good bad fine dull bright the a film plot cast was is very not and".split()
SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]")  # pad is 1, as RoBERTa's position ids want


def tiny_model(family, layers=3, num_labels=2, seed=0):
    """Hidden 32, four heads of 8, 64 neurons; weights large enough for every unit to matter."""
    sizes = {
        "vocab_size": len(SPECIAL) + len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "pad_token_id": 1,
        "num_labels": num_labels,
    }
    if family == "distilbert":
        sizes |= {"dim": 32, "n_layers": layers, "n_heads": 4, "hidden_dim": 64}
    if family == "electra":
        sizes["embedding_size"] = 16
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **sizes))
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def tiny_batch(seed=0):
    """Four inputs of up to twelve tokens, padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL), len(SPECIAL) + len(WORDS), (4, 12), generator=generator)
    mask = (torch.arange(12)[None] < torch.tensor([12, 9, 7, 4])[:, None]).long()
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def logits(model, batch=None):
    with torch.inference_mode():
        return model(**(batch or tiny_batch())).logits


def tiny_tokenizer(types=False):
    """Splits at white space; with `types` the second text of a pair gets `token_type_ids` of 1, as in BERT."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        pad_token="[PAD]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_input_names=["input_ids", *(["token_type_ids"] if types else []), "attention_mask"],
    )


def tiny_artifact(model):
    task = Task(kind="classification", labels=("negative", "positive"))
    return Artifact(model, tiny_tokenizer(), Manifest(source="tiny", task=task))


def assert_reloads(artifact, folder: Path):
    """Both ways of loading a saved artifact give its logits bit for bit."""
    from compress import reload
    from compress.artifact import load, save

    expected = logits(artifact.model)
    save(artifact, folder)
    assert torch.equal(logits(load(str(folder)).model), expected)
    reload.install()
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert torch.equal(logits(plain), expected)
