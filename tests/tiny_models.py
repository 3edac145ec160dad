"""Tiny random models, one per family, and a word tokenizer that goes with all of them."""

from pathlib import Path

import torch
from tiny_configs import SIZE, TUNED, UNTUNED, depth
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from compress.artifact import Artifact
from compress.manifest import Manifest
from compress.tasks import Task

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet")  # layers as BERT's
ZOO = tuple(TUNED)
WORDS = "good bad fine dull bright the a film plot cast was is very not and".split()
SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]")  # pad is 1, as RoBERTa's position ids want


def tiny_model(family, layers=3, num_labels=2, seed=0, tokenizer=None):
    """Hidden 32, four heads of 8, 64 neurons; weights large enough for every unit to matter.

    Ids are those of `tokenizer`, or of `tiny_tokenizer()`.
    """
    own = (TUNED | UNTUNED)[family]
    sizes = SIZE | {"num_labels": num_labels} | depth(family, layers) | own
    if tokenizer is not None:
        ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        sizes |= {"vocab_size": len(tokenizer), "decoder_start_token_id": tokenizer.pad_token_id} | ids
    if sizes["max_position_embeddings"] is None:  # XLNet knows no bound and none may be given
        del sizes["max_position_embeddings"]
    config = AutoConfig.for_model(sizes.pop("type", family), **sizes)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def tiny_batch(seed=0, eos=None):
    """Four inputs of up to twelve tokens, padded; with `eos` each ends in that id, which T5 and BART need."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL), len(SPECIAL) + len(WORDS), (4, 12), generator=generator)
    lengths = torch.tensor([12, 9, 7, 4])
    mask = (torch.arange(12)[None] < lengths[:, None]).long()
    if eos is not None:
        ids[torch.arange(4), lengths - 1] = eos
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def logits(model, batch=None):
    config = model.config
    batch = batch or tiny_batch(eos=config.eos_token_id if config.is_encoder_decoder else None)
    with torch.inference_mode():
        return model(**batch).logits


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


def assert_reloads(artifact, folder: Path, batch=None):
    """Both ways of loading a saved artifact give its logits bit for bit, on `tiny_batch()` or another."""
    from compress import reload
    from compress.artifact import load, save

    expected = logits(artifact.model, batch)
    save(artifact, folder)
    assert torch.equal(logits(load(str(folder)).model, batch), expected)
    reload.install()
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert torch.equal(logits(plain, batch), expected)
