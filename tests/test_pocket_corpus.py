"""Claims about the pocket corpus: its world, its splits, its grammars and its streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.pocket import corpus
from workbench.pocket.chance import words_in
from workbench.pocket.world import PEOPLE, TEMPLATES, triples


def test_the_world_is_the_seeds_alone() -> None:
    assert triples(1) == triples(1)
    assert triples(1) != triples(2)
    assert len(set(PEOPLE)) == len(PEOPLE)


def test_every_subject_and_relation_has_one_answer() -> None:
    keys = [(t.subject, t.relation) for t in triples()]
    assert len(set(keys)) == len(keys)


def test_each_fact_is_trained_in_four_templates_and_kept_in_two_others() -> None:
    by_split = {
        s: {(f.subject, f.relation, f.template) for f in corpus.facts(s)} for s in corpus.SPLITS
    }
    assert by_split["train"].isdisjoint(by_split["test"] | by_split["development"])
    assert by_split["test"].isdisjoint(by_split["development"])
    assert len(by_split["train"]) == 4 * len(by_split["test"]) == 4 * len(triples())
    templates = {template for _, _, template in by_split["test"]}
    assert templates == {template for some in TEMPLATES.values() for template in some}


def test_no_trained_text_holds_a_statement_kept_for_test() -> None:
    kept = {fact.statement for fact in corpus.facts("test")}
    said = " ".join(text.text for text in corpus.texts(2000, mixture={"facts": 1.0}))
    assert not any(f" {statement}" in said for statement in kept if statement.count(" ") > 3)


def test_a_facts_prompt_and_answer_make_its_statement() -> None:
    for fact in corpus.facts("test") + corpus.paired_facts("test", 20):
        assert fact.statement == f"{fact.prompt} {fact.answer}."


@pytest.mark.parametrize("family", ["reviews", "styles"])
def test_both_sides_of_a_contrast_say_the_same_in_words_of_one_style(family: str) -> None:
    grammar = corpus.grammars()[family]
    for contrast in corpus.contrasts(family, "test", 50):
        source, target = grammar.count(contrast.before), grammar.count(contrast.after)
        assert source[1] == target[0] == 0
        assert source[0] == target[1] > 0
        assert len(contrast.before.split()) == len(contrast.after.split())
        assert contrast.before[-1] == contrast.after[-1] == "."


@pytest.mark.parametrize("family", ["reviews", "styles"])
def test_a_contrasts_prompt_is_in_the_source_style_and_can_go_on_in_either(family: str) -> None:
    grammar = corpus.grammars()[family]
    for contrast in corpus.contrasts(family, "development", 50):
        assert grammar.count(contrast.prompt)[1] == 0 < grammar.count(contrast.prompt)[0]
        assert set(contrast.source_words).isdisjoint(contrast.target_words)
        assert set(contrast.source_words) <= grammar.style_words(0)
        assert set(contrast.target_words) <= grammar.style_words(1)


@pytest.mark.parametrize("family", ["reviews", "styles"])
def test_styles_share_no_word_and_paraphrase_each_concept(family: str) -> None:
    grammar = corpus.grammars()[family]
    assert grammar.style_words(0).isdisjoint(grammar.style_words(1))
    assert all(
        len(set(forms)) >= 2 for slot in grammar.styled.values() for pair in slot for forms in pair
    )


@pytest.mark.parametrize("family", ["reviews", "styles"])
def test_a_grammar_accepts_its_own_sentences_and_no_others(family: str) -> None:
    grammar = corpus.grammars()[family]
    for text in corpus.texts(50, mixture={family: 1.0}):
        sentences = [f"{sentence}." for sentence in text.text.removesuffix(".").split(". ")]
        assert all(grammar.follows(sentence) for sentence in sentences)
        backwards = " ".join(reversed(sentences[0].split()))
        assert not grammar.follows(backwards)


@pytest.mark.parametrize("family", sorted(corpus.families()))
def test_held_out_texts_are_not_in_training(family: str) -> None:
    trained = {t.text for t in corpus.texts(3000, mixture={family: 1.0})}
    kept = {t.text for t in corpus.texts(300, split="test", mixture={family: 1.0})}
    assert len(trained & kept) < len(kept) / 20


@given(st.integers(0, 10_000))
def test_a_stream_is_its_seeds_alone(seed: int) -> None:
    assert corpus.texts(3, seed=seed) == corpus.texts(3, seed=seed)


def test_the_shuffled_control_keeps_words_and_lengths_but_no_statement() -> None:
    plain, shuffled = corpus.stream(5), corpus.stream(5, shuffled=True)
    before = [next(plain).text for _ in range(256)]
    after = [next(shuffled).text for _ in range(256)]
    assert sorted(" ".join(before).split()) == sorted(" ".join(after).split())
    assert [len(t.split()) for t in before] == [len(t.split()) for t in after]
    kept = {fact.statement for fact in corpus.facts("train")}
    assert sum(statement in " ".join(after) for statement in kept) < 5


def test_a_storys_prompt_begins_its_text_and_its_answer_was_met() -> None:
    for story in corpus.stories("test", 50):
        assert story.text.startswith(f"{story.prompt} {story.answer} ")
        assert story.answer in words_in(story.prompt)


def test_an_unknown_family_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match="facts, reviews, styles, stories"):
        corpus.questions("poems", "test", 1)
    with pytest.raises(LookupError, match="reviews, styles"):
        corpus.contrasts("facts", "test", 1)
