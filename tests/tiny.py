"""Tiny random models of every family, built from their configs, and a tokenizer; no download."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

SPECIAL = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
SIZES = {
    **SPECIAL,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 260,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}

CONFIGS = {
    "gpt2": lambda: GPT2Config(
        n_embd=32, n_layer=3, n_head=4, vocab_size=260, n_positions=64, **SPECIAL
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**SIZES),
    "llama": lambda: LlamaConfig(**GROUPED),
    "mistral": lambda: MistralConfig(**GROUPED),
    "qwen2": lambda: Qwen2Config(**GROUPED),
    "qwen3": lambda: Qwen3Config(**GROUPED, head_dim=16),
    "gemma2": lambda: Gemma2Config(**GROUPED, head_dim=8, sliding_window=32),
}
FAMILIES = tuple(CONFIGS)


def model(family: str, seed: int = 0) -> Any:
    """Build a model whose norms and biases are not the identity, so that mix-ups show."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(CONFIGS[family]()).eval()
        with torch.no_grad():
            for value in made.parameters():
                # Sharper than the usual 0.02, so that attention is not flat.
                value.add_(0.1 * torch.randn_like(value))
    made.generation_config.do_sample = False
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    """Build a byte tokenizer: every text has tokens, one per byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(letters)}
    vocab |= {"<bos>": 256, "<eos>": 257, "<pad>": 258}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
