"""MLSAE (arXiv 2409.04185): one sparse autoencoder for the residual stream of every block."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.pocket import corpus
from workbench.pocket.effects.hooks import Network, first
from workbench.pocket.model import encode
from workbench.pocket.records import Figure, Split

LATENTS, ACTIVE = 1024, 16
STEPS, ROWS, RATE = 500, 1024, 2e-3

Stream = Float[Tensor, "layer token d_model"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dictionary:
    """Weights of a sparse autoencoder over standardised vectors."""

    encoder: Float[Tensor, "latent d_model"]
    decoder: Float[Tensor, "latent d_model"]
    bias: Float[Tensor, " d_model"]

    def latents(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows latent"]:
        """Return the activations: the largest few, if positive."""
        scores = (x - self.bias) @ self.encoder.T
        top = scores.topk(ACTIVE, dim=-1)
        return torch.zeros_like(scores).scatter(-1, top.indices, top.values.relu())

    def rebuilt(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Return the reconstruction of standardised vectors."""
        return self.latents(x) @ self.decoder + self.bias


def measure(
    net: Network, mixture: Mapping[str, float], split: Split = "test", *, steps: int = STEPS
) -> list[Figure]:
    """Measure unexplained variance by layer beside PCA of as many components as are active.

    Layer sharing: of a latent's activity, the entropy over layers in parts of ln(layers), as a
    mean weighed by activity; the control permutes the layers of each token. Intervals: over
    blocks of tokens for unexplained variance, none for entropies.
    """
    train, asked = _stream(net, "train", mixture, 1200), _stream(net, split, mixture, 200)
    learnt = _train(train, steps)
    figures = []
    for layer, x in enumerate(asked):
        figures.append(_figure(f"MLSAE, FVU, layer {layer}", split, x, learnt.rebuilt(x)))
        figures.append(
            _figure(f"PCA-{ACTIVE}, FVU, layer {layer}", split, x, _pca(train[layer], x))
        )
    active = learnt.latents(asked)
    shuffle = torch.rand(active.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(0)
    permuted = active.gather(0, shuffle[..., None].expand_as(active))
    for name, some in (("", active), (", layers permuted", permuted)):
        value = _sharing(some)
        figures.append(
            Figure(
                name=f"MLSAE, entropy over layers{name}",
                split=split,
                value=value,
                low=value,
                high=value,
                n=active.shape[1],
            )
        )
    return figures


@torch.no_grad()
def _stream(net: Network, split: Split, mixture: Mapping[str, float], n: int) -> Stream:
    """Return every block's output at every token but <bos>, standardised vector by vector."""
    model, tokenizer = net
    rows: list[list[Tensor]] = [[] for _ in model.transformer.h]
    hooks = [
        block.register_forward_hook(lambda _m, _i, out, at=at: rows[at].append(first(out)))
        for at, block in enumerate(model.transformer.h)
    ]
    masks = []
    texts = [t.text for t in corpus.texts(n, seed=17, split=split, mixture=mixture)]
    for start in range(0, n, 100):
        ids, mask = encode(tokenizer, texts[start : start + 100])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        model.transformer(input_ids=ids, attention_mask=mask, position_ids=positions)
        masks.append(positions > 0)
    for hook in hooks:
        hook.remove()
    x = torch.stack(
        [torch.cat([r[m] for r, m in zip(layer, masks, strict=True)]) for layer in rows]
    )
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


def _train(x: Stream, steps: int) -> Dictionary:
    """Train with Adam on vectors of all layers; decoder rows keep norm 1."""
    generator = torch.Generator().manual_seed(0)
    flat = x.flatten(0, 1)
    decoder = torch.nn.functional.normalize(
        torch.randn(LATENTS, flat.shape[1], generator=generator), dim=-1
    )
    parts = [
        (decoder.clone()).requires_grad_(),
        decoder.requires_grad_(),
        flat.mean(0).requires_grad_(),
    ]
    optimizer = torch.optim.Adam(parts, lr=RATE)
    for step in range(steps):
        batch = flat[torch.randint(len(flat), (ROWS,), generator=generator)]
        learnt = Dictionary(encoder=parts[0], decoder=parts[1], bias=parts[2])
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, 3 * (1 - step / steps))
        optimizer.zero_grad()
        _unexplained(batch, learnt.rebuilt(batch)).backward()
        optimizer.step()
        with torch.no_grad():
            parts[1] /= parts[1].norm(dim=-1, keepdim=True)
    encoder, decoder, bias = (part.detach() for part in parts)
    return Dictionary(encoder=encoder, decoder=decoder, bias=bias)


def _unexplained(
    x: Float[Tensor, "token d_model"], rebuilt: Float[Tensor, "token d_model"]
) -> Float[Tensor, ""]:
    """Return the fraction of variance unexplained, about each dimension's mean."""
    return (x - rebuilt).square().sum() / (x - x.mean(0)).square().sum()


def _pca(
    train: Float[Tensor, "token d_model"], x: Float[Tensor, "asked d_model"]
) -> Float[Tensor, "asked d_model"]:
    mean = train.mean(0)
    axes = torch.linalg.svd(train - mean, full_matrices=False).Vh[:ACTIVE]
    return (x - mean) @ axes.T @ axes + mean


def _figure(
    name: str,
    split: Split,
    x: Float[Tensor, "token d_model"],
    rebuilt: Float[Tensor, "token d_model"],
) -> Figure:
    """Return FVU with an interval from twenty blocks of tokens."""
    blocks = [
        _unexplained(a, b).item() for a, b in zip(x.chunk(20), rebuilt.chunk(20), strict=True)
    ]
    value = _unexplained(x, rebuilt).item()
    spread = 1.96 * torch.tensor(blocks).std().item() / len(blocks) ** 0.5
    low, high = max(0.0, value - spread), value + spread
    return Figure(name=name, split=split, value=value, low=low, high=high, n=len(x))


def _sharing(active: Float[Tensor, "layer token latent"]) -> float:
    """Return the mean entropy of latents over layers, weighed by activity, in parts of ln L."""
    mass: Float[Tensor, "layer latent"] = active.double().sum(1)
    total: Int[Tensor, ""] | Float[Tensor, ""] = mass.sum()
    shares = mass / mass.sum(0).clamp(min=1e-12)
    entropy = torch.special.entr(shares).sum(0) / torch.log(torch.tensor(float(len(active))))
    return (entropy * mass.sum(0)).sum().item() / total.item()
