"""Attach reads and edits to a backend for one block of code, and always detach them.

Two verbs: read and edit. At a site edits run in the plan's order, and reads see the edited value.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from store import Site
from workbench.backends.base import Backend, Edit, ModelSpec
from workbench.batch import Batch
from workbench.ledger import Ledger
from workbench.plan import Intervention, Plan, Receipt, Steer, Step, Where, as_plan


@runtime_checkable
class Checked(Protocol):
    """An intervention that can tell, before any compute, whether it fits a model."""

    def check(self, spec: ModelSpec) -> None:
        """Raise when this intervention does not fit the model."""
        ...


@dataclass
class Attached:
    """What is attached in a block, and what came of it so far."""

    plan: Plan
    n_rows: int | None
    reads: dict[Site, list[Tensor]] = field(default_factory=dict)
    ledgers: list[tuple[tuple[int, ...] | None, Ledger]] = field(default_factory=list)
    """For each intervention, the rows it acts on (None for all) and its measurements."""

    def receipts(self, row: int = 0) -> tuple[Receipt, ...]:
        """Return what the interventions of one row did to it, in order."""
        out = []
        for rows, ledger in self.ledgers:
            if rows is None:
                out.append(ledger.receipt(row, self.n_rows))
            elif row in rows:
                out.append(ledger.receipt(rows.index(row), len(rows)))
        return tuple(out)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one forward pass gave."""

    logits: Tensor
    reads: dict[Site, Tensor]
    block: Attached

    def receipts(self, row: int = 0) -> tuple[Receipt, ...]:
        """Return what the interventions of one row did to it, in order."""
        return self.block.receipts(row)


@contextlib.contextmanager
def attached(
    backend: Backend,
    steer: Steer = None,
    *,
    reads: Sequence[Site] = (),
    n_rows: int | None = None,
) -> Iterator[Attached]:
    """Attach a plan and reads for one block of code.

    `n_rows` is the number of prompts, which a per-row plan needs and receipts per row use.

    Raises:
        LookupError: the model has no such site.
        ValueError: a per-row plan does not fit the rows; or, at the end of the block, an
            intervention never selected a position.
    """
    plan = as_plan(steer)
    if n_rows is not None:
        plan.check_rows(n_rows)
    for one in plan.interventions:
        if isinstance(one, Checked):
            one.check(backend.spec)
    block = Attached(plan=plan, n_rows=n_rows)
    with contextlib.ExitStack() as stack:
        for rows, interventions in _groups(plan):
            for one in interventions:
                ledger = Ledger(_name(one), one.where)
                block.ledgers.append((rows, ledger))
                for site in sorted(one.sites, key=site_order):
                    fn = _edit(one, site, ledger)
                    fn = fn if rows is None else _for_rows(fn, rows, len(plan.rows))
                    stack.callback(backend.attach(site, fn))
        for site in dict.fromkeys(reads):
            block.reads[site] = []
            stack.callback(backend.attach(site, _read(block.reads[site])))
        yield block
    for _, ledger in block.ledgers:
        ledger.require_touched()


def run(
    backend: Backend,
    batch: Batch,
    steer: Steer = None,
    reads: Sequence[Site] = (),
    *,
    keep: int = 0,
    grad: bool = False,
) -> Outcome:
    """Run one forward pass under a plan and return logits, reads and receipts.

    `keep` asks for the logits of the last positions only, which saves most of the unembedding.

    Raises:
        LookupError: the model has no such site.
        ValueError: an intervention selected no position of this batch.
    """
    n_rows = len(batch.tokens)
    with (
        torch.set_grad_enabled(grad),
        attached(backend, steer, reads=reads, n_rows=n_rows) as block,
    ):
        logits = backend.forward(batch, keep)
    seen = {site: values[0] for site, values in block.reads.items()}
    return Outcome(logits=logits, reads=seen, block=block)


def site_order(site: Site) -> tuple[int, str, int]:
    """Sort sites by layer, then part, then head."""
    return (-1 if site.layer is None else site.layer, site.part, site.head or 0)


def _groups(plan: Plan) -> Iterator[tuple[tuple[int, ...] | None, tuple[Intervention, ...]]]:
    """Rows that share a plan are edited together."""
    if not plan.per_row:
        yield None, plan.rows[0]
        return
    same: dict[tuple[int, ...], list[int]] = {}
    for row, interventions in enumerate(plan.rows):
        same.setdefault(tuple(id(one) for one in interventions), []).append(row)
    for rows in same.values():
        yield tuple(rows), plan.rows[rows[0]]


def _name(one: Intervention) -> str:
    return getattr(one, "name", "") or type(one).__name__


def _read(into: list[Tensor]) -> Edit:
    def read(x: Tensor, _: Step) -> Tensor:
        into.append(x if x.requires_grad else x.detach())
        return x

    return read


def _edit(one: Intervention, site: Site, ledger: Ledger) -> Edit:
    select = _remember(one.where)

    def edit(x: Tensor, step: Step) -> Tensor:
        chosen, everything = select(step)
        new = one.edit(site, x, step)
        if new is not x and not everything:
            new = torch.where(chosen[..., None], new, x)
        ledger.note(site, x, new, chosen)
        return new

    return edit


def _remember(where: Where) -> Callable[[Step], tuple[Bool[Tensor, "batch pos"], bool]]:
    """Select once per step, not once per site. The memory is one tuple, so threads may share it."""
    last: list[tuple[Step, Tensor, bool] | None] = [None]

    def select(step: Step) -> tuple[Tensor, bool]:
        known = last[0]
        if known is None or known[0] is not step:
            chosen = where.mask(step)
            everything = step.full and (chosen is step.mask or bool(chosen.all()))
            known = last[0] = (step, chosen, everything)
        return known[1], known[2]

    return select


def _for_rows(fn: Edit, rows: Sequence[int], n_rows: int) -> Edit:
    def edit(x: Tensor, step: Step) -> Tensor:
        copies, rest = divmod(x.shape[0], n_rows)
        if rest:
            raise ValueError(f"each() has {n_rows} plans, but the model got {x.shape[0]} rows")
        index = _expanded(rows, copies).to(x.device)
        own = x[index]
        new = fn(own, step.rows(index))
        return x if new is own else x.index_copy(0, index, new)

    return edit


def _expanded(rows: Sequence[int], copies: int) -> Int[Tensor, " row"]:
    """Rows of the fed batch: beams and returned sequences stand next to each other."""
    return torch.tensor([row * copies + copy for row in rows for copy in range(copies)])
