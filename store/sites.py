"""The names of places in a transformer: one text form, ranges over it, aliases of two libraries.

Knows no model: the number of layers and heads is told to it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from itertools import chain

HEAD_PARTS: tuple[str, ...] = ("q", "k", "v", "z", "pattern", "scores")
"""Parts of which each attention head has its own."""

LAYER_PARTS: tuple[str, ...] = (
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_post", *HEAD_PARTS,
)  # fmt: skip
"""Parts that every layer has."""

PARTS: tuple[str, ...] = ("embed", *LAYER_PARTS, "ln_final", "logits")
"""The whole vocabulary."""

_SPAN = r"\*|-?\d+(?:--?\d+)?"
_RANGE = re.compile(r"(-?\d+)(?:-(-?\d+))?")
_TEXT = re.compile(rf"([a-z_]+)(?:\.({_SPAN}))?(?:\.h({_SPAN}))?")
_LENS = re.compile(rf"blocks\.({_SPAN})\.(.+)")
_HUGGING_FACE = re.compile(rf"(?:[a-z_]+\.)+(?:layers|h)\.({_SPAN})(?:\.([a-z_]+))?")

_LENS_PARTS = {
    "hook_in": "resid_pre", "hook_out": "resid_post",
    "hook_resid_pre": "resid_pre", "hook_resid_mid": "resid_mid", "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out", "attn.hook_out": "attn_out",
    "hook_mlp_out": "mlp_out", "mlp.hook_out": "mlp_out", "mlp.hook_post": "mlp_post",
    "attn.hook_q": "q", "attn.hook_k": "k", "attn.hook_v": "v", "attn.hook_z": "z",
    "attn.hook_pattern": "pattern", "attn.hook_attn_scores": "scores",
}  # fmt: skip
_HUGGING_FACE_PARTS = {
    None: "resid_post", "mlp": "mlp_out",
    "self_attn": "attn_out", "attn": "attn_out", "attention": "attn_out",
}  # fmt: skip
_WHOLE = {
    "hook_embed": "embed", "embed.hook_out": "embed",
    "ln_final.hook_normalized": "ln_final", "unembed.hook_out": "logits",
    "model.embed_tokens": "embed", "transformer.wte": "embed", "gpt_neox.embed_in": "embed",
    "model.norm": "ln_final", "transformer.ln_f": "ln_final",
    "gpt_neox.final_layer_norm": "ln_final",
    "lm_head": "logits", "embed_out": "logits",
}  # fmt: skip


@total_ordering
@dataclass(frozen=True)
class Site:
    """A place in a transformer; sorts by part, then layer, then head, absent numbers first."""

    part: str
    """One of PARTS."""
    layer: int | None = None
    """Counted from 0; absent exactly for embed, ln_final and logits."""
    head: int | None = None
    """Counted from 0; absent means the part of all heads together."""

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"no part {self.part!r}: there are {', '.join(PARTS)}")
        if (self.layer is None) is (self.part in LAYER_PARTS):
            want = f"write {self.part}.0 or {self.part}.*" if self.layer is None else "leave it out"
            raise ValueError(
                f"{self.part} {'needs a' if self.layer is None else 'has no'} layer: {want}"
            )
        if self.head is not None and self.part not in HEAD_PARTS:
            raise ValueError(f"{self.part} has no heads: only {', '.join(HEAD_PARTS)} have them")
        if min(self.layer or 0, self.head or 0) < 0:
            raise ValueError(
                f"{self._text()} counts from the end: select(..., n_layers=...) resolves it"
            )

    @staticmethod
    def parse(text: str) -> "Site":
        """Read one site from our text form or an alias.

        Raises ValueError when the text is no site, or names several.

        >>> Site.parse("blocks.6.attn.hook_z")
        Site(part='z', layer=6, head=None)
        """
        part, layer, head = _split(text)
        for number in (layer, head):
            if number is not None and not number.isdecimal():
                raise ValueError(
                    f"{text!r} is not one site: write one number, or ask select(..., n_layers=...)"
                )
        return Site(part, _int(layer), _int(head))

    def __str__(self) -> str:
        return self._text()

    def __lt__(self, other: "Site") -> bool:
        return self._key() < other._key()

    def _text(self) -> str:
        layer = "" if self.layer is None else f".{self.layer}"
        return self.part + layer + ("" if self.head is None else f".h{self.head}")

    def _key(self) -> tuple[str, int, int]:
        absent = -1
        return (
            self.part,
            absent if self.layer is None else self.layer,
            absent if self.head is None else self.head,
        )


def select(
    at: str | Site | Iterable[str | Site], *, n_layers: int, n_heads: int | None = None
) -> tuple[Site, ...]:
    """List the sites that a request names, in its order and without repeats.

    Ranges (`resid_post.4-8`), every (`resid_post.*`, `z.6.h*`), from the end (`resid_post.-1`) and
    comma-separated lists are understood. Raises ValueError for what is no request and LookupError
    for a site that a model of this size does not have.

    >>> [str(site) for site in select("resid_post.-2--1, z.0.h1", n_layers=4, n_heads=2)]
    ['resid_post.2', 'resid_post.3', 'z.0.h1']
    """
    asked = [at] if isinstance(at, str | Site) else list(at)
    terms = chain.from_iterable(str(item).split(",") for item in asked)
    found = chain.from_iterable(_expand(term.strip(), n_layers, n_heads) for term in terms)
    sites = tuple(dict.fromkeys(found))
    if not sites:
        raise ValueError("no sites were asked for: write for example resid_post.* or resid_post.-1")
    return sites


def _expand(term: str, n_layers: int, n_heads: int | None) -> list[Site]:
    part, layer, head = _split(term)
    Site(part, None if layer is None else 0, None if head is None else 0)
    layers = [None] if layer is None else _numbers(term, layer, n_layers, "layers")
    heads = [None] if head is None else _numbers(term, head, n_heads, "heads")
    return [Site(part, at_layer, at_head) for at_layer in layers for at_head in heads]


def _numbers(term: str, span: str, count: int | None, what: str) -> list[int]:
    if count is None:
        if not span.isdecimal():
            raise ValueError(f"{term!r} needs the number of {what}: pass n_{what}=...")
        return [int(span)]
    if span == "*":
        return list(range(count))
    match = _RANGE.fullmatch(span)
    assert match is not None  # _TEXT let only spans through
    ends = [int(end) for end in match.groups() if end is not None]
    first, last = (end + count if end < 0 else end for end in (ends[0], ends[-1]))
    if not 0 <= first < count or not 0 <= last < count:
        raise LookupError(
            f"no site {term}: the model has {what} 0-{count - 1}; "
            "write one of those, * for all, or -1 for the last"
        )
    if first > last:
        raise ValueError(f"{term!r} runs backwards: write the lower number first")
    return list(range(first, last + 1))


def _split(text: str) -> tuple[str, str | None, str | None]:
    """Part, layers and heads as written, aliases already resolved."""
    match = _TEXT.fullmatch(_ours(text.strip()))
    if match is None:
        raise ValueError(
            f"no site {text!r}: write part.layer or part.layer.hN, for example resid_post.6, "
            f"resid_post.4-8, resid_post.* or z.6.h3; parts are {', '.join(PARTS)}"
        )
    part, layer, head = match.groups()
    return part, layer, head


def _ours(text: str) -> str:
    if text in _WHOLE:
        return _WHOLE[text]
    if (match := _LENS.fullmatch(text)) and match[2] in _LENS_PARTS:
        return f"{_LENS_PARTS[match[2]]}.{match[1]}"
    if (match := _HUGGING_FACE.fullmatch(text)) and match[2] in _HUGGING_FACE_PARTS:
        return f"{_HUGGING_FACE_PARTS[match[2]]}.{match[1]}"
    return text


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)
