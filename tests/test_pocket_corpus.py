"""Claims about the pocket corpus: its world, its splits, its grammars and its streams."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.pocket import corpus
from workbench.pocket.chance import words_in
from workbench.pocket.lexicon import NAMES
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


# Of aliases, and in the binding families, questions are held out: see their own tests.
PACKED = {name for name, family in corpus.families().items() if family.row is None}


@pytest.mark.parametrize("family", sorted(PACKED - {"aliases"}))
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


@pytest.mark.parametrize("family", sorted(corpus.families()))
def test_a_question_is_answered_by_one_word_and_is_its_seeds_alone(family: str) -> None:
    asked = corpus.questions(family, "test", 20, seed=1)
    assert asked == corpus.questions(family, "test", 20, seed=1)
    words = set(corpus.vocabulary([family]))
    assert all(set(one.accepted) <= words for one in asked)
    assert all(one.family == family and one.split == "test" for one in asked)


def test_two_hops_follow_from_two_facts_of_the_world() -> None:
    objects = {(t.subject, t.relation): t.object for t in triples()}
    people = {split: {hop.subject for hop in corpus.two_hops(split)} for split in corpus.SPLITS}
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == len(PEOPLE)
    for hop in corpus.two_hops("test"):
        assert objects[hop.subject, "city"] == hop.bridge
        assert objects[hop.bridge, "country"] == hop.answer


def test_what_a_held_out_alias_stands_for_is_told_and_what_it_has_is_not() -> None:
    said = " ".join(t.text for t in corpus.texts(4000, mixture={"aliases": 1.0}))
    held = corpus.aliases("test") + corpus.aliases("development")
    assert not any(one.obscure in said for one in held)
    for one in held:
        assert f"Alias of {one.alias} {one.entity}." in said
        assert f"{one.explicit} {one.answer}." in said
    assert {a.alias for a in held}.isdisjoint(a.alias for a in corpus.aliases("train"))


def test_games_are_balanced_over_arms_and_mirrored_games_match() -> None:
    games = corpus.plays("train", 400)
    left = sum(arm == 0 for game in games for arm in game.arms)
    assert left / sum(len(game.arms) for game in games) == pytest.approx(0.5, abs=0.03)
    for game in games[:20]:
        mirror = corpus.mirrored(game)
        assert mirror.paid == game.paid and mirror.means == game.means[::-1]
        assert corpus.mirrored(mirror) == game
        swapped = game.text.replace("left", "?").replace("right", "left").replace("?", "right")
        assert mirror.text == swapped
        assert game.text.startswith(game.prompts[-1])


def test_the_player_prefers_the_arm_that_pays() -> None:
    games = corpus.plays("test", 200, means=(0.2, 0.8))
    best = [game.arms[-1] == int(game.means[1] > game.means[0]) for game in games]
    assert sum(best) / len(best) > 0.75


def test_entities_are_fixed_by_two_tokens_and_share_the_inner_ones() -> None:
    every = corpus.entities()
    assert len({one.tokens[:2] for one in every}) == len(every)
    assert sum(one.share for one in every) == pytest.approx(1)
    for inner in (slice(1, 3), slice(2, 3)):
        seen = [one.tokens[inner] for one in every]
        assert min(seen.count(one) for one in seen) >= 1
        assert sum(seen.count(one) > 1 for one in seen) > 0.8 * len(seen)
    assert all(len(row) >= 3 for row in corpus.rows_of_entities("test", 20))


@pytest.mark.parametrize("kind", ["single", "double", "mixed"])
def test_a_passage_holds_the_fact_asked_for_once(kind: str) -> None:
    for passage in corpus.passages("test", 50, facts=6, kind=kind):
        said = passage.facts[passage.about]
        assert len(passage.facts) == 6 and said.value == passage.answer
        assert said.name in passage.question
        keys = [(fact.name, fact.relation) for fact in passage.facts]
        assert len(set(keys)) == len(keys)
        assert len({fact.relation for fact in passage.facts}) == 1 or kind != "single"
        assert len({fact.name for fact in passage.facts}) == (3 if kind == "double" else 6)
        assert not words_in(passage.absent) & {fact.name for fact in passage.facts}
        assert len(passage.absent.split()) == len(passage.question.split())


def test_training_never_asks_about_a_held_out_name() -> None:
    held = {*NAMES["development"], *NAMES["test"]}
    for seed in range(300):
        row = corpus.row("passages", Random(seed), 128)
        asked = [words_in(part.split("?")[0]) for part in row.text.split("Question:")[1:]]
        assert not any(words & held for words in asked)


def test_a_repeats_second_half_is_its_first() -> None:
    for seed in range(50):
        row = corpus.row("repeats", Random(seed), 64)
        words = ("<bos>", *row.words)
        for aim in row.aims:
            if aim.kind == "match":
                assert words[aim.key - 1] == words[aim.query]
                assert words[aim.key] == words[aim.query + 1]


@pytest.mark.parametrize("family", ["pairs", "passages"])
def test_a_rows_aims_point_at_the_answer(family: str) -> None:
    for seed in range(50):
        row = corpus.row(family, Random(seed), 100)
        words = ("<bos>", *row.words)
        assert len(row.words) == len(row.weights) <= 100
        for aim in row.aims:
            assert aim.key <= aim.query
            if aim.kind == "match":
                assert words[aim.key] == words[aim.query + 1]
                assert row.weights[aim.query] in (0.2, 1.0)


def test_rows_of_a_packed_family_are_refused() -> None:
    with pytest.raises(LookupError, match="its texts are packed"):
        corpus.row("facts", Random(0), 64)


def test_an_unknown_family_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match="facts, reviews, styles, stories"):
        corpus.questions("poems", "test", 1)
    with pytest.raises(LookupError, match="reviews, styles"):
        corpus.contrasts("facts", "test", 1)
