"""Shards: immutable, whole or absent, and read back bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from store_samples import make_batch, make_run, record

from store import DamagedError, Prompt, Site, Store, TokenRows
from store.verify import verify

SMALL = {Site("resid_post", 0): 2}


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=9),
    values=st.lists(st.integers(0, 2**16 - 1), min_size=2, max_size=2),
)
def test_any_text_tag_meta_and_bits_survive_the_store_and_its_sql(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], values: list[int]
) -> None:
    n = len(texts)
    prompts = [Prompt(text=text, tags=(text,), meta={text: [text]}) for text in texts]
    rows = np.tile(np.array(values, np.uint16), (n, 1))
    tokens = TokenRows(
        prompt=np.arange(n), pos=np.zeros(n, int), token_id=np.zeros(n, int), token_str=texts
    )
    store = Store.open(tmp_path_factory.mktemp("s"))
    with store.writer(make_run(dtype="bf16"), SMALL) as writer:
        writer.add({Site("resid_post", 0): rows}, tokens, prompts)
    recorded = store.read("latest")
    assert recorded.prompts == prompts
    assert recorded.tokens().column("token_str").to_pylist() == texts
    assert recorded.scan("resid_post.0").tobytes() == rows.tobytes()
    found = store.sql(
        "SELECT text, tags, token_str FROM prompt JOIN token USING (prompt_id) ORDER BY prompt_id"
    )
    assert found.to_pylist() == [{"text": t, "tags": [t], "token_str": t} for t in texts]


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_shards_are_safetensors_that_begin_on_a_page_and_cannot_be_written(
    tmp_path: Path, dtype: str
) -> None:
    batch = make_batch([3, 4], dtype=dtype)
    store = Store.open(tmp_path)
    run = record(store, [batch], run=make_run(dtype=dtype))
    directory = tmp_path / "runs" / run.uuid
    (shard,) = store.read("latest").shards
    assert {series.d for series in shard.series} == {4, 8}
    for series in shard.series:
        path = directory / series.file.name
        assert series.data_off % 4096 == 0
        assert path.stat().st_mode & 0o777 == 0o444
        with safe_open(path, "pt") as opened:
            assert opened.metadata()["run"] == run.uuid
            for key in opened.keys():  # noqa: SIM118 - not a mapping
                tensor = opened.get_tensor(key)
                raw = tensor.view(dtype=__import__("torch").uint8).numpy().tobytes()
                assert raw == batch.tensors[Site.parse(key)].tobytes()


def test_a_flipped_byte_anywhere_is_found_by_verify(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    run = record(store, [make_batch([3, 4])])
    directory = tmp_path / "runs" / run.uuid
    assert verify(directory) > 0
    for path in sorted(directory.glob("0*")):
        whole = path.read_bytes()
        path.chmod(0o644)
        for at in (len(whole) // 3, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(DamagedError, match=f"{path.name} is damaged"):
                verify(directory)
        path.write_bytes(whole)
    assert verify(directory) > 0
