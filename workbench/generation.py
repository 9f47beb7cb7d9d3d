"""What came out of a model: generated text with its receipts, and several of them side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workbench.plan import Receipt


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One generated continuation."""

    prompt: str
    text: str
    """The new text alone, without the prompt."""
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    """The new tokens; the end-of-text token is kept when it was generated."""
    receipt: tuple[Receipt, ...]
    """What each intervention did to this prompt, in order; beams and sequences are one prompt's."""
    seed: int | None
    """The seed it was sampled with; None when nothing was drawn."""

    def __str__(self) -> str:
        return self.prompt + self.text


@dataclass(frozen=True)
class Comparison(Mapping[str, Generation]):
    """The same prompt under several plans, by the names the user gave them."""

    variants: Mapping[str, Generation]

    def __getitem__(self, name: str) -> Generation:
        return self.variants[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.variants)

    def __len__(self) -> int:
        return len(self.variants)

    def divergence(self, name: str) -> int | None:
        """Return the index of the first new token that differs from the first variant's.

        None when nothing differs.
        """
        first, other = next(iter(self.variants.values())).tokens, self.variants[name].tokens
        for index, (a, b) in enumerate(zip(first, other, strict=False)):
            if a != b:
                return index
        return None if len(first) == len(other) else min(len(first), len(other))

    def __str__(self) -> str:
        width = max(map(len, self.variants))
        return "\n".join(f"{name:>{width}} | {one}" for name, one in self.variants.items())
