"""The engine's promises: exactness, no trace left, batch equals single, cache equals one pass."""

from collections.abc import Callable

import pytest
import tiny
import torch
from conftest import hooks
from torch import Tensor

from steering import SteeringVector, steered
from store import Site
from workbench import Session, Where, each, engine
from workbench.backends.taps import Expected
from workbench.plan import Step

PROMPTS = ["a quick brown fox", "hi", "lazy dogs sleep"]


def vector(
    session: Session, seed: int, *, rule: str = "add", at: str = "resid_post.*"
) -> SteeringVector:
    draw = torch.Generator().manual_seed(seed)
    spec = session.backend.spec
    directions = {s: torch.randn(spec.width(s), generator=draw) for s in spec.select(at)}
    return SteeringVector(directions=directions, rule=rule, name=f"v{seed}")


def logits(session: Session, texts: list[str], steer: object = None) -> Tensor:
    return engine.run(session.backend, session.backend.encode(texts), steer).logits


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("rule", ["add", "add_relative", "icv"])
def test_strength_zero_and_empty_plan_are_bit_identical(
    open_tiny: Callable[..., Session], family: str, rule: str
) -> None:
    lab = open_tiny(family)
    plain = lab.backend.model(lab.backend.encode(["hello"]).tokens).logits
    none = logits(lab, ["hello"])
    zero = logits(lab, ["hello"], 0 * vector(lab, 1, rule=rule))
    assert torch.equal(none, zero)
    assert torch.equal(plain, logits(lab, ["hello"], []))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_an_edit_adds_exactly_its_direction_and_leaves_earlier_sites_alone(
    open_tiny: Callable[..., Session], family: str
) -> None:
    lab = open_tiny(family)
    v = vector(lab, 1, at="resid_post.1")
    reads = [
        Site("resid_post", 0),
        Site("mlp_out", 1),
        Site("resid_post", 1),
        Site("resid_post", 2),
    ]
    batch = lab.backend.encode(["hello"])
    plain = engine.run(lab.backend, batch, reads=reads).reads
    edited = engine.run(lab.backend, batch, 2 * v, reads=reads).reads
    assert torch.equal(plain[reads[0]], edited[reads[0]])
    assert torch.equal(plain[reads[1]], edited[reads[1]])
    assert torch.equal(plain[reads[2]] + 2 * v.directions[reads[2]], edited[reads[2]])
    assert not torch.equal(plain[reads[3]], edited[reads[3]])


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("rule", ["add", "icv"])
def test_every_row_of_a_padded_differently_steered_batch_equals_its_own_run(
    open_tiny: Callable[..., Session], family: str, rule: str
) -> None:
    lab = open_tiny(family)
    plans = [0.3 * vector(lab, 1, rule=rule), None, [0.2 * vector(lab, 2, rule=rule, at="z.1.h2")]]
    together = logits(lab, PROMPTS, each(plans))
    for row, (text, plan) in enumerate(zip(PROMPTS, plans, strict=True)):
        alone = logits(lab, [text], plan)[0]
        torch.testing.assert_close(together[row, -len(alone) :], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("sampled", [False, True])
def test_generated_rows_of_a_mixed_batch_equal_their_own_runs(
    open_tiny: Callable[..., Session], family: str, sampled: bool
) -> None:
    lab = open_tiny(family)
    plans = [0.5 * vector(lab, 1), None, 0.5 * vector(lab, 2, rule="icv").after(3)]
    options = {"max_new_tokens": 8, "do_sample": sampled}
    together = lab.generate(PROMPTS, steer=each(plans), **options)
    for text, plan, made in zip(PROMPTS, plans, together, strict=True):
        alone = lab.generate(text, steer=plan, **options)
        assert alone.tokens == made.tokens
        counts = [[t.positions for t in r.sites.values()] for r in made.receipt]
        assert counts == [[t.positions for t in r.sites.values()] for r in alone.receipt]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize(
    "where",
    [
        Where(),
        Where(phase="generated"),
        Where(phase="deciding"),
        Where(phase="prompt"),
        Where(start=2, stop=7),
    ],
    ids=str,
)
def test_steering_with_a_cache_equals_one_teacher_forced_pass(
    open_tiny: Callable[..., Session], family: str, where: Where
) -> None:
    lab = open_tiny(family)
    v = 0.5 * vector(lab, 1)
    v = SteeringVector(directions=v.directions, strength=0.5, where=where)
    made = lab.generate("hello", steer=v, max_new_tokens=6, do_sample=False)
    whole = torch.tensor([[*made.prompt_tokens, *made.tokens[:-1]]])
    n_prompt = len(made.prompt_tokens)
    batch = lab.backend.encode(["hello"])
    forget = lab.backend._taps.expect(Expected(n_prompt=batch.lengths, stop=torch.tensor([258])))
    try:
        with torch.no_grad(), engine.attached(lab.backend, v):
            logits = lab.backend.model(whole, use_cache=False).logits
    finally:
        forget()
    assert tuple(logits[0, n_prompt - 1 :].argmax(-1).tolist()) == made.tokens


def test_receipts_count_the_positions_that_the_phase_implies(
    open_tiny: Callable[..., Session],
) -> None:
    lab = open_tiny()
    v = vector(lab, 1, at="resid_post.1")
    expected = {"all": 5 + 7, "prompt": 5, "generated": 7, "deciding": 1 + 7}
    for phase, positions in expected.items():
        made = lab.generate("hello", steer=v.on(phase), max_new_tokens=8, min_new_tokens=8)
        (touch,) = made.receipt[0].sites.values()
        assert touch.positions == positions
        assert touch.change > 0 and touch.angle > 0


def test_receipts_measure_change_and_angle_of_the_edit(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny()
    site = Site("resid_post", 1)
    batch = lab.backend.encode(["hello"])
    x = engine.run(lab.backend, batch, reads=[site]).reads[site][0].double()
    v = vector(lab, 3, at="resid_post.1")
    out = engine.run(lab.backend, batch, 0.7 * v)
    (touch,) = out.receipts()[0].sites.values()
    y = x + 0.7 * v.directions[site].double()
    cosine = torch.nn.functional.cosine_similarity(x, y)
    assert touch.change == pytest.approx(
        float(((y - x).norm(dim=1) / x.norm(dim=1)).mean()), rel=1e-5
    )
    assert touch.angle == pytest.approx(float(torch.rad2deg(cosine.acos()).mean()), rel=1e-4)


def test_a_plan_that_selects_nothing_is_an_error_and_strength_zero_is_none(
    open_tiny: Callable[..., Session],
) -> None:
    lab = open_tiny()
    v = vector(lab, 1)
    with pytest.raises(ValueError, match="touched nothing.*all tokens at positions 50"):
        lab.generate("hello", steer=v.after(50), max_new_tokens=4)
    with pytest.raises(ValueError, match="touched nothing"):
        lab.generate("hello", steer=v.on("generated"), max_new_tokens=1)
    made = lab.generate("hello", steer=0 * v, max_new_tokens=4)
    assert all(touch.change == 0 for touch in made.receipt[0].sites.values())


def test_a_block_whose_model_never_ran_is_an_error() -> None:
    model, other = tiny.model("gpt2"), tiny.model("gpt2", seed=1)
    v = SteeringVector(directions={Site("resid_post", 1): torch.ones(32)})
    with pytest.raises(ValueError, match="no forward pass of this model"), steered(model, v):
        other(torch.tensor([[1, 2]]))
    assert hooks(model) == 0


def test_an_exception_in_the_block_leaves_the_model_as_it_was(
    open_tiny: Callable[..., Session],
) -> None:
    lab = open_tiny()
    before, plain = hooks(lab.backend.model), logits(lab, ["hello"])

    class Broken:
        sites = frozenset({Site("resid_post", 1)})
        where = Where()

        def edit(self, site: Site, x: Tensor, step: Step) -> Tensor:
            raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        lab.generate("hello", steer=Broken())
    assert hooks(lab.backend.model) == before
    assert torch.equal(logits(lab, ["hello"]), plain)


def test_values_that_are_not_finite_are_refused(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny()
    with pytest.raises(FloatingPointError, match="not finite at resid_post.0"):
        logits(lab, ["hello"], 3e38 * vector(lab, 1))


def test_steered_blocks_share_the_hooks_of_an_open_session(
    open_tiny: Callable[..., Session],
) -> None:
    lab = open_tiny()
    model, before = lab.backend.model, hooks(lab.backend.model)
    v = vector(lab, 1)
    with steered(model, v) as block:
        inside = model(lab.backend.encode(["hello"]).tokens).logits
        assert hooks(model) == before
    assert hooks(model) == before
    assert torch.equal(inside, logits(lab, ["hello"], v))
    assert block.receipts()[0].positions == 5


def test_reads_see_edits_and_edits_run_in_order(open_tiny: Callable[..., Session]) -> None:
    lab = open_tiny()
    site = Site("resid_post", 1)
    add, turn = vector(lab, 1, at=str(site)), 0.5 * vector(lab, 2, rule="icv", at=str(site))
    batch = lab.backend.encode(["hello"])
    one = engine.run(lab.backend, batch, [add, turn], reads=[site]).reads[site]
    two = engine.run(lab.backend, batch, [turn, add], reads=[site]).reads[site]
    assert not torch.allclose(one, two)
    x = engine.run(lab.backend, batch, reads=[site]).reads[site]
    step = Step(positions=batch.positions, mask=batch.mask, n_prompt=batch.lengths, full=True)
    torch.testing.assert_close(one, turn.edit(site, add.edit(site, x, step), step))


def test_threads_do_not_see_each_others_plans(open_tiny: Callable[..., Session]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    lab = open_tiny("llama")
    vectors = [None, *(0.5 * vector(lab, seed) for seed in range(1, 4))]
    expected = [lab.generate("hello", steer=v, max_new_tokens=6).tokens for v in vectors]
    assert len(set(expected)) > 1
    calls = list(range(4)) * 10
    with ThreadPoolExecutor(4) as pool:
        run = lambda i: lab.generate("hello", steer=vectors[i], max_new_tokens=6).tokens  # noqa: E731
        found = list(pool.map(run, calls))
    assert found == [expected[i] for i in calls]


@pytest.mark.parametrize("options", [
    {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2},
    {"do_sample": True, "num_return_sequences": 3}, {"num_beams": 2, "do_sample": True},
], ids=str)  # fmt: skip
def test_beams_and_returned_sequences_keep_their_rows_plan(
    open_tiny: Callable[..., Session], options: dict[str, object]
) -> None:
    lab = open_tiny("llama")
    plans = [0.8 * vector(lab, 1), 0.8 * vector(lab, 2)]
    together = lab.generate(PROMPTS[:2], steer=each(plans), max_new_tokens=5, **options)
    copies = int(options.get("num_return_sequences", 1))
    if options.get("num_beams") and options.get("do_sample"):
        again = lab.generate(PROMPTS[:2], steer=each(plans), max_new_tokens=5, **options)
        assert [one.tokens for one in together] == [one.tokens for one in again]
        return
    for row in range(2):
        alone = lab.generate([PROMPTS[row]], steer=plans[row], max_new_tokens=5, **options)
        mine = together[row * copies : (row + 1) * copies]
        assert [one.tokens for one in alone] == [one.tokens for one in mine]


def test_sampling_streams_stops_at_strings_and_leaves_the_global_generator_alone(
    open_tiny: Callable[..., Session],
) -> None:
    from transformers import TextStreamer

    class Heard(TextStreamer):
        def __init__(self) -> None:
            super().__init__(tiny.tokenizer())
            self.pieces: list[str] = []

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.pieces.append(text)

    lab = open_tiny()
    heard = Heard()
    state = torch.get_rng_state()
    made = lab.generate("hello", do_sample=True, max_new_tokens=8, streamer=heard, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert "".join(heard.pieces) == made.prompt + made.text
    piece = lab.backend.decode(made.tokens[2:3])
    cut = lab.generate("hello", do_sample=True, max_new_tokens=8, seed=3, stop_strings=[piece])
    assert cut.tokens == made.tokens[: made.tokens.index(made.tokens[2]) + 1]
    assert lab.generate("hello", do_sample=True, max_new_tokens=8, seed=4).tokens != made.tokens


def test_a_row_that_ended_early_is_not_touched_while_the_others_go_on(
    open_tiny: Callable[..., Session],
) -> None:
    lab = open_tiny("llama")
    v = 0.1 * vector(lab, 1, at="resid_post.1")
    options = {"steer": v, "max_new_tokens": 8, "do_sample": True}
    plain = lab.generate(PROMPTS[:2], seed=[1, 2], **options)
    end = plain[0].tokens[2]
    assert end not in plain[1].tokens
    both = lab.generate(PROMPTS[:2], seed=[1, 2], eos_token_id=end, **options)
    alone = [
        lab.generate(text, seed=seed, eos_token_id=end, **options)
        for text, seed in zip(PROMPTS[:2], (1, 2), strict=True)
    ]
    assert [len(one.tokens) for one in both] == [3, 8]
    assert [one.tokens for one in both] == [one.tokens for one in alone]
    assert [one.receipt[0].positions for one in both] == [one.receipt[0].positions for one in alone]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_keeping_some_logits_gives_the_last_ones_and_the_same_reads(
    open_tiny: Callable[..., Session], family: str
) -> None:
    lab = open_tiny(family)
    batch, site = lab.backend.encode(PROMPTS), Site("resid_post", 2)
    every = engine.run(lab.backend, batch, reads=[site])
    last = engine.run(lab.backend, batch, reads=[site], keep=2)
    torch.testing.assert_close(last.logits, every.logits[:, -2:])
    assert torch.equal(last.reads[site], every.reads[site])
