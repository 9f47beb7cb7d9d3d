"""The network and its files: build it, ask it questions, write it as a Hugging Face directory."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from workbench.pocket.recipe import Recipe
from workbench.pocket.records import Question
from workbench.pocket.tokenizer import BOS, EOS, PAD, SPACE, save


def build(recipe: Recipe, tokenizer: Tokenizer, *, seed: int) -> GPT2LMHeadModel:
    """Build the network with weights drawn from the seed; the global generator stays as it was."""
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=recipe.context,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        resid_pdrop=0.0,
        initializer_range=recipe.init,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS),
        pad_token_id=tokenizer.token_to_id(PAD),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def write(model: GPT2LMHeadModel, words: Sequence[str], directory: Path) -> None:
    """Write a directory for transformers: weights in half precision, read back as single."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.half().contiguous() for name, tensor in model.transformer.state_dict().items()
    }
    save_file(
        {f"transformer.{k}": v for k, v in weights.items()},
        directory / "model.safetensors",
        {"format": "pt"},
    )
    config = model.config.to_dict() | {
        "architectures": ["GPT2LMHeadModel"],
        "dtype": "float32",
        "use_cache": True,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    ids = {
        f"{name}_token_id": getattr(model.config, f"{name}_token_id")
        for name in ("bos", "eos", "pad")
    }
    (directory / "generation_config.json").write_text(json.dumps(ids, indent=2) + "\n")
    save(directory, words, context=model.config.n_positions)


def encode(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[Int[Tensor, "text pos"], Int[Tensor, "text pos"]]:
    """Return token ids and mask of the texts, padded on the left."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    width = max(map(len, rows))
    pad = tokenizer.token_to_id(PAD)
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


@torch.no_grad()
def next_log_probs(
    model: GPT2LMHeadModel, tokenizer: Tokenizer, prompts: Sequence[str]
) -> Float[Tensor, "prompt d_vocab"]:
    """Return the log-probabilities of the token after each prompt, in nats."""
    found = []
    for start in range(0, len(prompts), 64):
        ids, mask = (t.to(model.device) for t in encode(tokenizer, prompts[start : start + 64]))
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        hidden = model.transformer(
            input_ids=ids, attention_mask=mask, position_ids=positions
        ).last_hidden_state
        found.append(model.lm_head(hidden[:, -1]).float().log_softmax(-1).cpu())
    return torch.cat(found)


def word_ids(tokenizer: Tokenizer, words: Sequence[str]) -> list[int]:
    """Return the token of each word. Raises LookupError for a word that is not one token."""
    ids = []
    for word in words:
        token = tokenizer.token_to_id(SPACE + word)
        if token is None:
            raise LookupError(
                f"no token for {word!r}: only words of the corpus are one token; "
                "corpus.vocabulary() lists them"
            )
        ids.append(token)
    return ids


def answers(
    model: GPT2LMHeadModel, tokenizer: Tokenizer, questions: Sequence[Question]
) -> list[bool]:
    """Tell for each question whether the likeliest next token is one of the accepted words."""
    likeliest = next_log_probs(model, tokenizer, [q.prompt for q in questions]).argmax(-1).tolist()
    return [
        token in word_ids(tokenizer, question.accepted)
        for token, question in zip(likeliest, questions, strict=True)
    ]
