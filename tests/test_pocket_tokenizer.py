"""Claims about the pocket tokenizer: one token per word, any text round trips, left padding."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from workbench.pocket import corpus
from workbench.pocket.tokenizer import BOS, PAD, build, save


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build(corpus.vocabulary(), context=256)[0]


def test_every_word_of_the_corpus_is_one_token(tokenizer: Tokenizer) -> None:
    for word in corpus.vocabulary():
        assert len(tokenizer.encode(f"{word}.").ids) == 3, word


def test_texts_of_the_corpus_round_trip_and_are_never_spelt(tokenizer: Tokenizer) -> None:
    for text in corpus.texts(500, seed=3):
        encoding = tokenizer.encode(text.text)
        assert encoding.tokens[0] == BOS
        assert tokenizer.decode(encoding.ids) == text.text
        assert all(token.startswith("▁") or token in ".,?:" for token in encoding.tokens[1:])


@given(st.text(st.characters(exclude_characters="▁", exclude_categories=("Cs",)), min_size=1))
def test_any_text_that_begins_without_a_space_round_trips(text: str) -> None:
    tokenizer, _ = build(["soup"], context=256)
    said = text.strip(" ")
    marked = {"<pad>", "<bos>", "<eos>", "<unk>"}
    if said and not any(mark in said for mark in marked):
        assert tokenizer.decode(tokenizer.encode(said).ids) == said


def test_a_word_is_the_same_token_with_and_without_a_space_before_it(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(" warm").ids == tokenizer.encode("warm").ids


def test_transformers_loads_it_offline_and_pads_on_the_left(tmp_path: Path) -> None:
    save(tmp_path, corpus.vocabulary(), context=256)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    batch = loaded(["The soup was", "Ada lives in Lisbon."], padding=True)
    assert loaded.convert_ids_to_tokens(batch["input_ids"][0])[:3] == [PAD, PAD, BOS]
    assert batch["attention_mask"][0] == [0, 0, 1, 1, 1, 1]
    assert loaded.decode(batch["input_ids"][0], skip_special_tokens=True) == "The soup was"
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<bos>", "<eos>", "<pad>")
