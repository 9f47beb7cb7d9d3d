"""ICV: in-context vectors from pairs of texts (Liu et al., 2023, arXiv:2311.06668)."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steering.extract import mean_difference, mean_plus_components
from steering.vector import SteeringVector
from store import Site
from workbench import engine
from workbench.session import Session

PAIRS_PER_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class ICV:
    """Learn the direction from `before` to `after` texts at their last tokens.

    In-context vectors (Liu et al., 2023, arXiv:2311.06668). `ICV.released()` is the recipe of the
    released code.

    Differs from the paper: the direction is the mean difference alone. The released code adds the
    first principal component of the centred differences, which is a direction in which pairs
    differ from each other and not the one they share.
    """

    at: str = "resid_post.*"
    """Where activations are read."""
    into: str | None = None
    """Where the vector is written; where it is read, unless given. Layers must match."""
    rule: str = "icv"
    """How it is written: icv (norm kept, strength λ), add or add_relative."""
    components: int = 0
    """Principal components added to the mean, taken over all read sites together."""
    keep_punctuation: bool = True
    """False deletes ASCII punctuation from both texts first, as the released code does."""

    def __post_init__(self) -> None:
        if self.components < 0:
            raise ValueError(f"components={self.components}: give 0 for the mean alone, or more")

    @classmethod
    def released(cls) -> "ICV":
        """Return the recipe of the released code: read after blocks, write after MLPs."""
        return cls(at="embed,resid_post.*", into="mlp_out.*", components=1, keep_punctuation=False)

    def fit(self, session: Session, data: Sequence[tuple[str, str]]) -> SteeringVector:
        """Learn a vector from (before, after) pairs; its directions have norm 1 for rule icv.

        Raises:
            ValueError: there is no pair, or the texts of all pairs are the same.
            LookupError: the model lacks a site, or `into` needs a layer that `at` does not read.
        """
        pairs = _checked(data)
        read = session.backend.spec.select(self.at)
        before, after = (
            last_tokens(session, [self._text(pair[side]) for pair in pairs], read)
            for side in (0, 1)
        )
        found = self._directions(before, after, read)
        written = _targets(read, session.backend.spec.select(self.into or self.at))
        directions = {target: self._scaled(found[source]) for target, source in written.items()}
        return SteeringVector(
            directions=directions,
            rule=self.rule,
            fingerprint=session.backend.spec.fingerprint,
            name="icv",
            method="steering:ICV",
            norms={
                site: float(torch.cat([before[site], after[site]]).norm(dim=-1).mean())
                for site in read
            },
            notes=self._notes(found, len(pairs)),
        )

    def _text(self, text: str) -> str:
        return text if self.keep_punctuation else text.translate(_without_punctuation())

    def _directions(
        self, before: dict[Site, Tensor], after: dict[Site, Tensor], read: Sequence[Site]
    ) -> dict[Site, Tensor]:
        if not self.components:
            return {site: mean_difference(before[site], after[site]) for site in read}
        # One component is one unit vector over all read sites, as in the released code.
        joint = [torch.cat([side[site] for site in read], dim=1) for side in (before, after)]
        flat = mean_plus_components(*joint, rank=self.components)
        widths = [before[site].shape[1] for site in read]
        return dict(zip(read, flat.split(widths), strict=True))

    def _scaled(self, direction: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        if not direction.norm() > 0:
            raise ValueError(
                "before and after texts look the same to the model at their last tokens: "
                "give pairs that differ, and end them in the same token"
            )
        return (direction / direction.norm() if self.rule == "icv" else direction).float()

    def _notes(self, found: dict[Site, Tensor], n_pairs: int) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in self.__dataclass_fields__}
        norms = {str(site): float(v.norm()) for site, v in found.items()}
        return {"settings": settings, "n_pairs": n_pairs, "difference_norms": norms}


def last_tokens(
    session: Session, texts: Sequence[str], sites: Sequence[Site]
) -> dict[Site, Float[Tensor, "text d"]]:
    """Return what sites hold at the last token of each text, in float64."""
    out: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for start in range(0, len(texts), PAIRS_PER_BATCH):
        batch = session.backend.encode(texts[start : start + PAIRS_PER_BATCH])
        reads = engine.run(session.backend, batch, reads=sites, keep=1).reads
        for site in sites:
            # Rows are padded on the left, so the last column is each text's last token.
            out[site].append(reads[site][:, -1].double())
    return {site: torch.cat(parts) for site, parts in out.items()}


def _mean_norm(*sides: Float[Tensor, "text d"]) -> float:
    return float(torch.cat(sides).norm(dim=-1).mean())


def _checked(data: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = [tuple(pair) for pair in data]
    if not pairs:
        raise ValueError("no pairs: give at least one (before, after) pair of texts")
    for i, pair in enumerate(pairs):
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise ValueError(f"pair {i} is {pair!r}: each is two texts, (before, after)")
    return [(pair[0], pair[1]) for pair in pairs]


def _targets(read: Sequence[Site], written: Sequence[Site]) -> dict[Site, Site]:
    """Match each written site with itself if it is read, else with the read site of its layer."""
    # Without a layer there is nothing to write to: the released code drops the embedding's row.
    targets = [site for site in written if site.layer is not None]
    found = {site: _source(site, read) for site in targets}
    lacking = [str(site) for site, source in found.items() if source is None]
    if lacking or not targets:
        have = ", ".join(str(site) for site in read)
        raise LookupError(
            f"cannot write into {', '.join(lacking) or 'sites without a layer'}: at= reads {have}, "
            "and each written site needs one read site in its layer"
        )
    return {site: source for site, source in found.items() if source is not None}


def _source(target: Site, read: Sequence[Site]) -> Site | None:
    if target in read:
        return target
    same = [site for site in read if site.layer == target.layer]
    return same[0] if len(same) == 1 else None


def _without_punctuation() -> dict[int, None]:
    return dict.fromkeys(map(ord, string.punctuation))
