"""Tokenizers of every kind, trained in the test on made-up sentences, laid out as the families have them."""

import itertools
import json
import math
import random
from collections import Counter
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LEFT = "this film", "the plot", "her second album", "that café", "the cast", "his newest novel", "der Roman"
VERBS = "was", "seems", "isn't", "has never been", "wirkt", "turned out"
RIGHT = "dull", "astonishingly bright", "unwatchable", "très charmant", "good (8/10)", "a near-perfect thing!"
SENTENCES = [" ".join(parts) + "." for parts in itertools.product(LEFT, VERBS, RIGHT)]
random.Random(0).shuffle(SENTENCES)
SENTENCES = SENTENCES[:100]


_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Style:
    """A family's tokenizer: its algorithm, special tokens by role, and what surrounds one text and two."""

    kind: str  # wordpiece, bytes, unigram, or metaspace (BPE with byte fallback)
    special: dict[str, str]
    single: str = "$A"
    pair: str = "$A $B"
    lower: bool = False
    types: bool = False
    digits: int = 0  # of a number that stay together, where bytes are split as in Llama 3


def _roles(pad, unk, first, last, mask=None):
    roles = {"pad_token": pad, "unk_token": unk, "cls_token": first, "sep_token": last, "mask_token": mask}
    return {role: token for role, token in roles.items() if token}


_BERT = Style(
    "wordpiece",
    _roles("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "[CLS] $A [SEP]",
    "[CLS] $A [SEP] $B:1 [SEP]:1",
    lower=True,
    types=True,
)
_ROBERTA = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"} | {
    "mask_token": "<mask>",
    "bos_token": "<s>",
    "eos_token": "</s>",
}
_S_PAIR = "<s> $A </s> </s> $B </s>"
STYLES = {
    "bert": _BERT,
    "mpnet": Style("wordpiece", _ROBERTA | {"unk_token": "[UNK]"}, "<s> $A </s>", _S_PAIR, lower=True),
    "roberta": Style("bytes", _ROBERTA, "<s> $A </s>", _S_PAIR),
    "gpt2": Style("bytes", {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
    "llama": Style(
        "bytes",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"},
        "<|begin_of_text|> $A",
        "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        digits=3,
    ),
    "qwen2": Style("bytes", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}, digits=1),
    "mistral": Style(
        "metaspace",
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        "<s> $A",
        "<s> $A $B",
    ),
    "xlm-roberta": Style("unigram", _ROBERTA, "<s> $A </s>", _S_PAIR),
    "albert": Style(
        "unigram",
        _roles("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B:1 [SEP]:1",
        lower=True,
        types=True,
    ),
    "t5": Style(
        "unigram",
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        "$A </s>",
        "$A </s> $B </s>",
    ),
    "deberta-v2": Style(
        "unigram",
        _roles("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B:1 [SEP]:1",
        types=True,
    ),
}
# Whose style a family of the zoo shares.
SHARED = {
    "electra": "bert",
    "distilbert": "bert",
    "mobilebert": "bert",
    "deberta-v3": "deberta-v2",
    "modernbert": "roberta",
    "bart": "roberta",
    "opt": "roberta",
    "smollm": "gpt2",
    "qwen3": "qwen2",
    "qwen2_moe": "qwen2",
    "mt5": "t5",
    "mbart": "roberta",
}


def trained_tokenizer(family, texts=SENTENCES, size=400):
    """Train the family's kind of tokenizer on `texts`, with at most `size` entries; BERT's where none is known."""
    style = STYLES.get(SHARED.get(family, family), _BERT)
    special = list(dict.fromkeys(style.special.values()))
    tokenizer, trainer = _BUILDERS[style.kind](style, size, special)
    if style.lower:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    if trainer:
        tokenizer.train_from_iterator(texts, trainer)
    else:
        tokenizer.model = _model_of(_frequent_pieces(tokenizer, texts, size - len(special)), style, special)
    if style.kind == "metaspace":
        tokenizer = _without_special_bytes(tokenizer)
    if style.single != "$A":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=style.single,
            pair=style.pair,
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in special],
        )
    types = ["token_type_ids"] if style.types else []
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", *types, "attention_mask"], **style.special
    )


def _wordpiece(style, size, special):
    tokenizer = Tokenizer(models.WordPiece(unk_token=style.special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, None


def _bytes(style, size, special):
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=style.digits == 0)
    if style.digits:
        words = Regex(_WORDS.replace("DIGITS", str(style.digits)))
        byte_level = pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), byte_level])
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def _metaspace(style, size, special):
    tokenizer = Tokenizer(models.BPE(unk_token=style.special["unk_token"], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    return tokenizer, trainers.BpeTrainer(
        vocab_size=size + 256, special_tokens=special + fallback, show_progress=False
    )


def _without_special_bytes(tokenizer):
    """Leave the bytes in the vocabulary only: the trainer takes them no other way than as special tokens."""
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [
        token for token in content["added_tokens"] if not token["content"].startswith("<0x")
    ]
    return Tokenizer.from_str(json.dumps(content))


def _unigram(style, size, special):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, None


def _frequent_pieces(tokenizer, texts, size):
    """Count letters and the substrings of words that cover most of the texts, by (piece, whether it begins a word).

    The trainers of word pieces and of unigrams choose other pieces in every process.
    """
    counts = Counter()
    for text in texts:
        text = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text):
            ends = itertools.combinations(range(len(word) + 1), 2)
            counts.update((word[start:end], start == 0) for start, end in ends)
    order = sorted(counts, key=lambda key: (len(key[0]) > 1, -counts[key] * len(key[0]), key))
    return {key: counts[key] for key in order[:size]}


def _model_of(counts, style, special):
    unknown = style.special["unk_token"]
    if style.kind == "wordpiece":
        pieces = [*special, *(piece if begins else f"##{piece}" for piece, begins in counts)]
        return models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token=unknown)
    merged = Counter()
    for (piece, _), count in counts.items():
        merged[piece] += count
    scored = [(piece, math.log(count / merged.total())) for piece, count in merged.items()]
    return models.Unigram([*((token, 0.0) for token in special), *scored], unk_id=special.index(unknown))


_BUILDERS = {"wordpiece": _wordpiece, "bytes": _bytes, "metaspace": _metaspace, "unigram": _unigram}
