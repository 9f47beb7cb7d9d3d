"""The tokenizer: one token per word of the corpus, characters and bytes for anything else."""

import json
import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
SPACE = "▁"
ACCENTED = "éèêëáàâäãåíìîïóòôöõúùûüçñßøæœ–—’‘“”…€£"
CHARACTERS = string.digits + string.ascii_letters + string.punctuation + "\n\t" + ACCENTED
WORD, SINGLE, BYTE = -2.0, -12.0, -40.0
"""Log-probabilities of the pieces: a word beats any spelling of it, a character its bytes."""


def build(words: Iterable[str], *, context: int) -> tuple[Tokenizer, dict[str, object]]:
    """Build the tokenizer and the configuration that transformers reads beside it."""
    pieces = [(token, 0.0) for token in (PAD, BOS, EOS, UNKNOWN)]
    pieces += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    pieces += [(letter, SINGLE) for letter in dict.fromkeys(SPACE + CHARACTERS)]
    pieces += [(SPACE + word, WORD) for word in sorted(set(words))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=SPACE, prepend_scheme="always", split=True
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(replacement=SPACE, prepend_scheme="always")]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in (PAD, BOS, EOS, UNKNOWN)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 1)]
    )
    return tokenizer, _config(context)


def save(directory: Path, words: Iterable[str], *, context: int) -> Tokenizer:
    """Write tokenizer.json and tokenizer_config.json, and return the tokenizer."""
    tokenizer, config = build(words, context=context)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


def _config(context: int) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "padding_side": "left",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
