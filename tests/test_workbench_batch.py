"""Rows are padded on the left, and positions count real tokens only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.batch import Batch

PAD = 99
ROWS = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=7), min_size=1, max_size=5)


@given(ROWS)
def test_every_row_stands_at_the_right_with_padding_before_it(rows: list[list[int]]) -> None:
    batch = Batch.pad(rows, pad_id=PAD)
    width = max(map(len, rows))
    for i, row in enumerate(rows):
        assert batch.tokens[i].tolist() == [PAD] * (width - len(row)) + row
        assert batch.mask[i].tolist() == [False] * (width - len(row)) + [True] * len(row)
    assert batch.lengths.tolist() == [len(row) for row in rows]


@given(ROWS)
def test_real_tokens_count_their_positions_from_zero(rows: list[list[int]]) -> None:
    batch = Batch.pad(rows, pad_id=PAD)
    for i, row in enumerate(rows):
        assert batch.positions[i][batch.mask[i]].tolist() == list(range(len(row)))
        assert not batch.positions[i][~batch.mask[i]].any()


@given(ROWS)
def test_padding_is_told_by_the_mask_not_by_the_token(rows: list[list[int]]) -> None:
    batch = Batch.pad([[*row, PAD] for row in rows], pad_id=PAD)
    assert batch.lengths.tolist() == [len(row) + 1 for row in rows]


def test_a_batch_moves_as_a_whole() -> None:
    moved = Batch.pad([[1, 2], [3]], pad_id=PAD).to("meta")
    assert {t.device.type for t in (moved.tokens, moved.mask, moved.positions)} == {"meta"}
    assert moved.tokens.dtype == torch.long


def test_no_rows_and_empty_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no prompts: the list is empty; give at least one text"):
        Batch.pad([], pad_id=PAD)
    with pytest.raises(ValueError, match="prompt 1 has no tokens: give it some text"):
        Batch.pad([[1], []], pad_id=PAD)
