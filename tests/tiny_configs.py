"""Configs of tiny models, by a name of ours; `model_type` where that is another one.

Sizes are given in the family's own names, so that nothing is left at its default by mistake.
"""

SIZE = {
    "vocab_size": 20,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
_DECODER = {"bos_token_id": 0, "eos_token_id": 2}
_GROUPED = _DECODER | {"num_key_value_heads": 2, "head_dim": 8}
_SEQ2SEQ = _DECODER | {"decoder_start_token_id": 1, "d_model": 32}
_DEBERTA = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
_T5 = _SEQ2SEQ | {
    "d_kv": 8,
    "d_ff": 64,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}
_BART = _SEQ2SEQ | {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("attention_heads", 4), ("ffn_dim", 64))
}

# What each family's config needs beyond SIZE.
TUNED = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "electra": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_heads": 4, "hidden_dim": 64},
    "mpnet": {},
    "albert": {"embedding_size": 16},
    # As the first release had it: projections of the relative positions, and a convolution after layer 0.
    "deberta-v2": _DEBERTA | {"share_att_key": False, "conv_kernel_size": 3, "conv_act": "gelu"},
    "deberta-v3": _DEBERTA
    | {"share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "type": "deberta-v2"},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2},
    "modernbert": _DECODER | {"local_attention": 8, "cls_token_id": 0, "sep_token_id": 2},
    "gpt2": _DECODER | {"n_inner": 64},
    "llama": _GROUPED,
    "smollm": _GROUPED | {"tie_word_embeddings": True, "type": "llama"},
    "qwen2": _GROUPED,
    "qwen3": _GROUPED | {"head_dim": 16},  # as in Qwen3-0.6B, four heads are wider than the model
    "mistral": _GROUPED | {"sliding_window": 8},
    "opt": _DECODER | {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "t5": _T5,
    "bart": _BART,
}
# Families that nobody prepared for.
UNTUNED = {
    "camembert": {},
    "ernie": {},
    "megatron-bert": {},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roformer": {"embedding_size": 32},
    "deberta": _DEBERTA,
    "convbert": {"embedding_size": 32},
    "squeezebert": {"embedding_size": 32},
    "fnet": {"tpu_short_seq_length": 12},
    "funnel": {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64},
    "xlm": _DECODER | {"emb_dim": 32, "n_heads": 4},
    "xlnet": _DECODER | {"d_model": 32, "n_head": 4, "d_inner": 64, "max_position_embeddings": None},
    "mt5": _T5 | {"feed_forward_proj": "gated-gelu"},
    "mbart": _BART,
    "gpt_neo": _DECODER | {"num_heads": 4, "window_size": 8},
    "gpt_neox": _DECODER,
    "gptj": _DECODER | {"n_inner": 64, "rotary_dim": 4},
    "bloom": _DECODER,
    "falcon": _DECODER | {"num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 64},
    "phi": _DECODER,
    "phi3": _DECODER,
    "gemma": _GROUPED,
    "olmo2": _GROUPED,
    "starcoder2": _GROUPED,
    "qwen2_moe": _GROUPED
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    | {"shared_expert_intermediate_size": 32},
}


def depth(family, layers):
    """Name the number of layers as the family's config does."""
    if family == "funnel":
        return {"block_sizes": [1] * layers, "num_decoder_layers": 1}
    if family == "gpt_neo":
        return {"num_layers": layers, "attention_types": [[["global"], layers]]}
    if family in ("bart", "mbart"):
        return {"encoder_layers": layers, "decoder_layers": layers}
    if family in ("t5", "mt5"):
        return {"num_layers": layers, "num_decoder_layers": layers}
    if family in ("distilbert", "xlm"):
        return {"n_layers": layers}
    if family in ("gpt2", "gptj", "bloom", "xlnet"):
        return {"n_layer": layers}
    return {"num_hidden_layers": layers}
